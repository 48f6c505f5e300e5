"""CPU time is counted where it is spent, whichever thread spends it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest

from streamd.benchmark import proc
from streamd.benchmark.meter import STAGES, Meter
from streamd.benchmark.passes import Cost, Subject, Writing, look, measure
from streamd.core.errors import StreamdError
from streamd.core.timing import Stage
from streamd.models.description import describe
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.service.offline import Span
from streamd.service.start import open_detector
from streamd.sources import SourceRequest
from tests.support.clips import Clip, make
from tests.support.number_model import make_number_model
from tools.graphs.detectors import Form, yolov8n

pytestmark = pytest.mark.slow


def cost_of(model: Path, clip: Path, *, threads: int = 1, cpu_runs: int | None = None) -> Cost:
    """One pass over the clip, warm."""
    meter = Meter()
    description = describe(model)
    options = RuntimeOptions(("cpu",), True, "fp32", 0, Path(), 1, cpu_runs=cpu_runs)
    before = proc.foreign_threads()
    with open_detector(description, options, make=meter.detector) as (detector, _):
        meter.session_is(proc.foreign_threads() - before)
        request = SourceRequest(str(clip), threads=threads)
        subject = Subject(request, detector, rules_for(description.labels), meter)
        look(subject)
        return measure(subject, Span(), 0, [Writing()], once=True)


def test_all_parts_add_up_to_the_process(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=40))
    cost = cost_of(make_number_model(tmp_path / "m.onnx"), clip)
    assert cost.frames == 40
    assert set(cost.stages_ns) == set(STAGES)
    assert all(spent > 0 for spent in cost.stages_ns.values())
    assert 0 < cost.overhead_ns < cost.cpu_ns
    assert sum(cost.stages_ns.values()) + cost.overhead_ns == cost.cpu_ns


@pytest.mark.long
@pytest.mark.parametrize("runs", [1, None])
def test_the_sessions_own_threads_count_as_inference(tmp_path: Path, runs: int | None) -> None:
    """A model that does all the work, on all cores: hardly anything is left over."""
    clip = make(tmp_path / "a.mp4", Clip(frames=10, width=64, height=48))
    model = tmp_path / "v8n.onnx"
    onnx.save(yolov8n(Form(320, 320)), model)
    cost = cost_of(model, clip, cpu_runs=runs)
    assert cost.stages_ns[Stage.INFER] > 0.7 * cost.cpu_ns
    assert cost.overhead_ns < 0.2 * cost.cpu_ns


@pytest.mark.long
def test_the_decoders_own_threads_count_as_decoding(tmp_path: Path) -> None:
    """A large clip for a model that does nothing: decoding is most of it, on one thread and on two."""
    clip = make(tmp_path / "a.mp4", Clip(frames=90, width=1920, height=1080))
    model = make_number_model(tmp_path / "m.onnx")
    for threads in (1, 2):
        cost = cost_of(model, clip, threads=threads)
        assert cost.stages_ns[Stage.DECODE] > 0.4 * cost.cpu_ns, threads
        assert cost.stages_ns[Stage.DECODE] > 2 * cost.overhead_ns, threads


def test_a_source_that_breaks_off_is_told_of(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mp4", Clip(frames=40, container={"movflags": "faststart"}))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(StreamdError, match=r"cut\.mp4: incomplete"):
        cost_of(make_number_model(tmp_path / "m.onnx"), cut)


def test_cpu_time_and_memory_of_another_process() -> None:
    code = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while proc.process_cpu_s(process.pid) < 0.5 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert 0.5 <= proc.process_cpu_s(process.pid) < 2
        assert 2 < proc.resident_mib(process.pid) < 500
        process.communicate(b"\n")


def test_threads_of_python_are_not_foreign() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert thread.native_id not in proc.foreign_threads()
        assert os.getpid() not in proc.foreign_threads()
    finally:
        stop.set()
        thread.join()
