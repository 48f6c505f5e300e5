"""Builds the source distribution and the wheel, and verifies that they hold what they should.

    python -m tools.build [--folder dist]

The wheel is built from the source distribution, so that whoever builds from that gets the same one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent / "streamd"
_IN_SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "config/streamd.yaml",
    "tests/conftest.py",
)


class BuildError(Exception):
    """What was built is not what it should be."""


def verify_wheel(wheel: Path) -> None:
    """Raises BuildError unless the wheel holds every file of the package and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    wanted = {
        f"streamd/{path.relative_to(_PACKAGE).as_posix()}"
        for path in _PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    _compare(wheel, wanted, {name for name in names if ".dist-info/" not in name})
    for needed in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        if not any(name.endswith(f".dist-info/{needed}") for name in names):
            raise BuildError(f"{wheel.name}: {needed} is missing")


def verify_sources(archive: Path) -> None:
    """Raises BuildError unless the source distribution holds what building and testing needs."""
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    lacking = sorted(set(_IN_SOURCES) - names)
    if lacking:
        raise BuildError(f"{archive.name}: {', '.join(lacking)} missing")


def _compare(wheel: Path, wanted: set[str], found: set[str]) -> None:
    for problem, names in (("missing", wanted - found), ("not of the package", found - wanted)):
        if names:
            raise BuildError(f"{wheel.name}: {problem}: {', '.join(sorted(names))}")


def main() -> int:
    """Build, check the metadata, verify the contents; 1 with what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("dist"))
    parser.add_argument(
        "--no-isolation", action="store_true", help="build with the hatchling that is installed"
    )
    chosen = parser.parse_args()
    if chosen.folder.exists() and any(chosen.folder.iterdir()):
        print(
            f"{chosen.folder} is not empty: remove it, so that nothing old is taken for new", file=sys.stderr
        )
        return 1
    isolation = ["--no-isolation"] if chosen.no_isolation else []
    root = _PACKAGE.parent
    subprocess.run([sys.executable, "-m", "build", *isolation, "--outdir", chosen.folder, root], check=True)
    (sources,), (wheel,) = chosen.folder.glob("*.tar.gz"), chosen.folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", sources, wheel], check=True)
    try:
        verify_sources(sources)
        verify_wheel(wheel)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{wheel.name}: {wheel.stat().st_size >> 10} KiB, every file of the package; {sources.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
