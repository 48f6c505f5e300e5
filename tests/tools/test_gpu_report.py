"""The GPU report on a machine without a GPU: that it works, and that no row is silent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.test_session import needs_no_gpu

ROOT = Path(__file__).parents[2]
ROWS = [
    "own time for a frame",
    "pipeline against bare ONNX Runtime",
    "latency, batch 1",
    "latency, batch 1, half precision",
    "host memory",
    "CUDA graph",
    "batch buckets",
    "copy while running",
    "start to first result",
    "decoding",
    "TensorRT, batch 1",
]
ON_A_GPU_ONLY = {"host memory", "CUDA graph", "TensorRT, batch 1"}
# What a bare machine with onnxruntime-gpu, onnx and numpy does not have.
BARE = """
import sys
for name in ("av", "cv2", "zmq", "msgspec", "loguru", "pydantic", "yaml", "typer", "rich", "prometheus_client"):
    sys.modules[name] = None
from tools.gpu_report.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def table_of(out: Path, *command: str) -> dict[str, list[tuple[str, str]]]:
    done = subprocess.run(
        [sys.executable, *command, "--cpu", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = out.read_text().splitlines()
    assert lines[0].startswith("Processor only, tiny sizes: ")
    assert any(line.startswith("onnxruntime 1.") for line in lines)
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines[lines.index("| what | how | result |") + 2 :]:
        what, how, result = (part.strip() for part in line.strip("| ").split("|"))
        found.setdefault(what, []).append((how, result))
    return found


def test_every_row_says_what_it_measured_or_why_not(tmp_path: Path) -> None:
    found = table_of(tmp_path / "report.md", "-m", "tools.gpu_report")
    assert list(found) == ROWS
    for what, results in found.items():
        for how, result in results:
            if what in ON_A_GPU_ONLY or "NVDEC" in result:
                assert result.startswith("not measured: "), (what, result)
                assert result.endswith("needs a GPU; this ran with --cpu")
            else:
                assert any(character.isdigit() for character in result), (what, result)
                assert not result.startswith("not measured"), (what, result)
                assert how
    assert [len(found[what]) for what in ("latency, batch 1", "batch buckets", "decoding")] == [2, 2, 2]


def test_a_bare_machine_measures_all_that_needs_no_decoder(tmp_path: Path) -> None:
    found = table_of(tmp_path / "report.md", "-c", BARE)
    assert list(found) == ROWS
    assert found["decoding"] == [("", "not measured: PyAV is not installed")]
    for what in set(ROWS) - ON_A_GPU_ONLY - {"decoding"}:
        assert not any(result.startswith("not measured") for _, result in found[what]), (what, found[what])
    ((how, _),) = found["own time for a frame"]
    assert how.endswith("without the message (msgspec is not installed)")


@needs_no_gpu
@pytest.mark.parametrize("out", [True, False])
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path, out: bool) -> None:
    command = [sys.executable, "-m", "tools.gpu_report", *(["--out", str(tmp_path / "r.md")] if out else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("gpu_report: no GPU to measure: libcuda.so.1 is missing")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r.md").exists()
