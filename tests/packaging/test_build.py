"""What is built and installed: the archives as whoever installs them gets them, and the bounds of dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import streamd
from tools import build, lowest

_ROOT = Path(streamd.__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, and verified, by the command that people use."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "tools.build", "--no-isolation", "--folder", folder],
        cwd=_ROOT,
        check=True,
        capture_output=True,
    )
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.long
def test_the_wheel_holds_what_runs_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"streamd-{streamd.__version__}.dist-info/METADATA").decode()
    wanted = ("py.typed", "assets/demo.mp4", "assets/demo.onnx", "assets/streamd.service")
    assert {f"streamd/{name}" for name in wanted} <= names
    assert any(name.startswith("streamd/assets/schemas/") for name in names)
    assert f"Version: {streamd.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata


@pytest.mark.long
def test_a_wheel_that_lacks_a_file_or_has_one_too_many_is_refused(wheel: Path, tmp_path: Path) -> None:
    for change, problem in (("lacks", "missing: streamd/py.typed"), ("extra", "not of the package: tests/")):
        other = tmp_path / change / wheel.name
        other.parent.mkdir()
        with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(other, "w") as changed:
            for name in archive.namelist():
                if change == "extra" or name != "streamd/py.typed":
                    changed.writestr(name, archive.read(name))
            if change == "extra":
                changed.writestr("tests/conftest.py", "")
        with pytest.raises(build.BuildError, match=problem):
            build.verify_wheel(other)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_empty_environment_runs_the_demo_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, cwd=tmp_path)
    shown = subprocess.run(
        [tmp_path / "venv" / "bin" / "streamd", "demo"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert "person" in shown.stdout + shown.stderr
    assert (tmp_path / "demo.jsonl").stat().st_size > 10_000
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000
    shutil.rmtree(tmp_path / "venv")


def test_every_dependency_has_both_bounds() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        assert ">=" in text, text
        assert "<" in text, text
    assert len(lowest.lowest(project["dependencies"])) == len(project["dependencies"])


def test_a_dependency_without_a_lower_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="numpy<3: wants one lower bound"):
        lowest.lowest(["numpy<3"])
    assert lowest.lowest(["av>=18.1,<19; sys_platform == 'linux'"]) == ['av==18.1; sys_platform == "linux"']
