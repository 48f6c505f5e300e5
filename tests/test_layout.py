"""The shape of the package: who may import whom, and where foreign libraries may be named."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamd

PACKAGE = Path(__file__).parent.parent / "streamd"
GROUPS = ["core", "sources", "models", "pipeline", "bus", "service", "benchmark", "diagnosis", "cli"]
# Where each foreign library may be imported: a file, or a package (ending in /).
HOMES = {
    "av": [
        "sources/libav/",
        "sources/rtsp/decoding.py",
        "sources/rtsp/source.py",
        "models/resize.py",
        "service/movie.py",
    ],
    "cv2": [
        "models/preprocess.py",
        "models/resize.py",
        "models/colour.py",
        "service/render.py",
        # The loop that is compared with may share nothing with the path, so it has libraries of its own.
        "benchmark/usual.py",
    ],
    "onnx": ["models/graph.py", "models/prologue.py", "models/letterbox_graph.py", "models/trial.py"],
    "google": ["models/graph.py", "models/prologue.py"],  # protobuf's errors, which onnx lets through
    "onnxruntime": ["models/creation.py", "benchmark/usual.py"],
    "zmq": ["bus/"],
    "msgspec": ["bus/", "service/", "benchmark/", "diagnosis/"],
    "yaml": ["service/document.py"],
    "pydantic": ["service/"],
    "pydantic_core": ["service/"],
    "prometheus_client": ["service/metrics.py", "service/scrape.py"],
    "typer": ["cli/"],
    "rich": ["cli/"],
    "loguru": ["service/", "cli/"],
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_group_imports_only_groups_above_it(path: Path) -> None:
    group = path.relative_to(PACKAGE).parts[0]
    if group not in GROUPS:
        return
    allowed = GROUPS[: GROUPS.index(group) + 1]
    for module in imports_of(path):
        parts = module.split(".")
        if parts[0] == "streamd" and len(parts) > 1 and parts[1] in GROUPS:
            assert parts[1] in allowed, f"{group} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_foreign_library_has_one_home(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for module in imports_of(path):
        library = module.split(".")[0]
        homes = HOMES.get(library)
        if homes is not None:
            assert any(place == home or (home.endswith("/") and place.startswith(home)) for home in homes), (
                f"{place} imports {library}, whose home is {homes}"
            )
        else:
            assert library in sys.stdlib_module_names or library in ("streamd", "numpy"), library


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long_and_no_name_is_empty_of_meaning(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320
    banned = (
        "manager",
        "handler",
        "helper",
        "utils",
        "common",
        "base",
        "processor",
        "data",
        "info",
        "context",
    )
    assert path.stem not in banned
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            assert not any(node.name.lower().endswith(word) for word in banned if word != "handler"), (
                node.name
            )


def test_importing_streamd_loads_nothing_heavy() -> None:
    heavy = ["cv2", "av", "onnxruntime", "onnx", "zmq", "pydantic", "numpy", "msgspec", "loguru", "rich"]
    code = f"import sys, streamd; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_client_needs_pyzmq_and_msgspec_alone() -> None:
    """Any other foreign library is refused to it, as where only these two are installed."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] not in {*sys.stdlib_module_names, 'streamd', 'zmq', 'msgspec'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import streamd\n"
        "print([getattr(streamd, name) is not None for name in streamd.__all__])\n"
        "with streamd.subscribe(), streamd.messages(), streamd.pictures('tcp://127.0.0.1:5561'): pass\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str([True] * len(streamd.__all__))


@pytest.mark.slow
def test_help_is_light() -> None:
    """`streamd --help` costs at most 20 times a bare interpreter: CPU seconds, best of three each."""
    bare = [sys.executable, "-c", "pass"]
    shown = [sys.executable, "-m", "streamd", "--help"]
    assert _cpu_s(shown) <= 20 * _cpu_s(bare)


def _cpu_s(command: list[str]) -> float:
    best = float("inf")
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        best = min(best, usage.ru_utime + usage.ru_stime)
    return best
