"""ONNX Runtime reports nothing to anybody, and leaves nothing behind, unless the operator wants it to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_MODULES = ["streamd.models.creation", "streamd.benchmark.usual"]
# All that a process needs. It keeps silent by itself where it finds one of a dozen names of CI systems (CI, TF_BUILD,
# ...): with those inherited, nothing here could fail.
_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def _files_after(code: str, folder: Path, **environ: str) -> list[str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**inherited, "XDG_CACHE_HOME": str(folder), "HOME": str(folder), **environ},
    )
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("module", _MODULES)
def test_no_identifier_is_kept(tmp_path: Path, module: str) -> None:
    assert _files_after(f"import {module}", tmp_path) == []


@pytest.mark.slow
def test_who_wants_it_can_have_it(tmp_path: Path) -> None:
    """Also shows that the test above could fail: that this version still writes an identifier."""
    files = _files_after(f"import {_MODULES[0]}", tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert "deviceid" in files
