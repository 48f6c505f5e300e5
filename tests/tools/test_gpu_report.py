"""The GPU report on a machine without a GPU: that it works, and that no row is silent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from streamd.core.timing import Deadline
from streamd.models import gpu, libraries
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.running import warmed
from streamd.sources.libav import hardware
from tests.models.test_capture import Card
from tests.support.far_memory import FarMemory
from tests.support.gpu import needs_no_gpu
from tests.support.number_model import make_number_model
from tests.support.pretended_nvdec import PretendedDevice
from tools.gpu_report import nvdec
from tools.gpu_report import rows as report
from tools.gpu_report.decoding import write_clip
from tools.gpu_report.half import difference
from tools.gpu_report.measure import Bench, NotMeasuredError
from tools.graphs.detectors import Form, yolov10n
from tools.graphs.planted import Planted

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROWS = [
    "own time for a frame",
    "pipeline against bare ONNX Runtime",
    "latency, batch 1",
    "host memory",
    "CUDA graph",
    "batch buckets",
    "copy while running",
    "start to first result",
    "decoding",
    "decoded, letterboxed and inferred on the GPU",
    "half precision, batch 1",
    "TensorRT, batch 1",
]
ON_A_GPU_ONLY = {
    "host memory",
    "CUDA graph",
    "decoded, letterboxed and inferred on the GPU",
    "TensorRT, batch 1",
}
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


@pytest.mark.long
def test_every_row_says_what_it_measured_or_why_not(tmp_path: Path) -> None:
    found = table_of(tmp_path / "report.md", "-m", "tools.gpu_report")
    assert list(found) == ROWS
    for what, results in found.items():
        for how, result in results:
            if what in ON_A_GPU_ONLY or "NVDEC" in result or how.startswith("tensorrt"):
                assert result.startswith("not measured: "), (what, result)
                assert result.endswith("needs a GPU; this ran with --cpu")
            else:
                assert any(character.isdigit() for character in result), (what, result)
                assert not result.startswith("not measured"), (what, result)
                assert how
    alone, converted, by_option = found["half precision, batch 1"]
    assert "difference" not in alone[1]
    assert re.search(r"; largest difference \S+ px in a box, \S+% of a score$", converted[1])
    assert by_option[0] == "tensorrt, trt_fp16_enable"
    assert [len(found[what]) for what in ("latency, batch 1", "batch buckets", "decoding")] == [2, 2, 2]


@pytest.mark.long
def test_a_bare_machine_measures_all_that_needs_no_decoder(tmp_path: Path) -> None:
    found = table_of(tmp_path / "report.md", "-c", BARE)
    assert list(found) == ROWS
    assert found["decoding"] == [("", "not measured: PyAV is not installed")]
    for what in set(ROWS) - ON_A_GPU_ONLY - {"decoding"}:
        for how, result in found[what]:
            assert result.startswith("not measured") == how.startswith("tensorrt"), (what, how, result)
    ((how, _),) = found["own time for a frame"]
    assert how.endswith("without the message (msgspec is not installed)")


def test_the_largest_difference_is_found_wherever_it_is() -> None:
    wanted = np.full((2, 6, 10), 0.5, np.float32)
    got = wanted.astype(np.float16)
    assert difference(wanted, got) == (0, 0)
    got[1, 3, 9] += 2
    got[0, 4, 0] -= 0.125
    assert difference(wanted, got) == (2, 0.25)


@pytest.mark.long
def test_the_rows_of_a_gpu_say_what_they_should_over_a_pretended_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor in the place of CUDA, with memory to copy to and from and graphs to replay; no TensorRT."""
    Card(monkeypatch, tmp_path)

    def load(wanted: tuple[libraries.Library, ...]) -> None:
        if wanted is libraries.TENSORRT:
            raise libraries.LibraryError("libnvinfer.so.10 is missing")

    monkeypatch.setattr(libraries, "load", load)
    monkeypatch.setattr(gpu, "read_gpu", lambda _: None)
    bench = Bench("cuda", tmp_path, 160, 0.02, (1, 2), Deadline(500))
    model = yolov10n(Form(160, 160, dynamic=True, seed=0, planted=Planted(3)))
    onnx.save(model, bench.detector)
    wanted = {"copy while running", "half precision, batch 1", "CUDA graph", "TensorRT, batch 1"}
    monkeypatch.setattr(report, "_ROWS", {what: row for what, row in report._ROWS.items() if what in wanted})
    results = {row.how: row.result for row in report.rows(bench)}
    one, two = "one set of memory", "two: one batch is copied and read while the other runs"
    path = "cuda, batch 2, rings, worker and outbox"
    assert list(results) == [
        "cuda, fp32, CUDA graph off",
        "cuda, fp32, CUDA graph on",
        f"{path}, {one}",
        f"{path}, {two}",
        "cuda, fp32, raw head",
        "cuda, model converted to fp16",
        "tensorrt, trt_fp16_enable",
        "",
    ]
    assert results["cuda, fp32, CUDA graph on"].endswith("; same outputs bit for bit")
    assert re.match(r"\d+ pictures/s \(\d+\.\d\d times, median of 3 pairs\)", results[f"{path}, {two}"])
    assert "; largest difference " in results["cuda, model converted to fp16"]
    missing = "not measured: libnvinfer.so.10 is missing"
    assert results["tensorrt, trt_fp16_enable"] == results[""] == missing


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


@pytest.mark.parametrize("on_device", [True, False])
def test_what_the_row_for_nvdec_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    """Over stand-ins for NVDEC and the GPU's memory: every picture of every stream, and where it was written."""
    device = PretendedDevice()
    monkeypatch.setattr(hardware, "accelerated", device.decoder)
    clip = tmp_path / "clip.mp4"
    write_clip(clip, (320, 180), 20)
    description = describe(make_number_model(tmp_path / "m.onnx"))
    made = onnxruntime.InferenceSession(str(description.path), providers=["CPUExecutionProvider"])
    with warmed(made, description.graph, 4, FarMemory, [], lambda line: None) as session:
        detector = Detector(description, session, 4)
        passage = nvdec.run(detector, device if on_device else None, clip, 3)  # type: ignore[arg-type]
    assert (passage.results, passage.there, passage.notes) == (60, 60 if on_device else 0, [])
    assert passage.seconds > 0
    assert nvdec.equal_pictures(clip, 0) == (20, 20)
    device.decoders.clear()
    monkeypatch.setattr(
        hardware, "accelerated", lambda software, gpu: device.decoder(software, gpu, kind="p010le")
    )
    with pytest.raises(
        NotMeasuredError, match="p010le there, which is not read from a GPU; decoding on the CPU"
    ):
        nvdec.equal_pictures(clip, 0)
