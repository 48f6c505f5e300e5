"""A configured stream whose model runs on a GPU: decoded there, and what comes of it when that goes wrong.

The GPU and NVDEC are stand-ins (there is no GPU to be had here); the fleet, its streams and their threads are real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from loguru import logger

from streamd.core.crew import Crew
from streamd.core.timing import Deadline
from streamd.models.creation import create_whole
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.running import warmed
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.worker import Worker
from streamd.service import fleet as fleet_module
from streamd.service import loading
from streamd.service.configured import known_names
from streamd.service.fleet import Fleet, RunningModel
from streamd.sources.libav import hardware
from tests.models.test_detector import number_in
from tests.support.clips import Clip, make
from tests.support.daemon import write_config
from tests.support.far_memory import FarMemory
from tests.support.number_model import make_number_model
from tests.support.pretended_nvdec import PretendedDevice

pytestmark = pytest.mark.slow

FRAMES = 30


class Played:
    """A clip that was played to its end by a fleet whose model runs `on_gpu`: its results, and the warnings."""

    def __init__(self, folder: Path, *, on_gpu: bool, hardware: str = "cuda") -> None:
        clip = make(folder / "c.mp4", Clip(frames=FRAMES, b_frames=2))
        model = make_number_model(folder / "m.onnx")
        stream = {"url": str(clip), "pace": "fast", "hardware": hardware}
        (config,) = loading.load(
            write_config(folder / "c.yaml", model, {"film": stream}), tables=known_names()
        ).streams
        description = describe(model)
        made: Any = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self.far = FarMemory()
        session = warmed(
            made, description.graph, 4, (lambda: self.far) if on_gpu else None, [], lambda line: None
        )
        detector = Detector(description, session, 4)
        self.size = int(np.prod(detector.input.picture))
        self.lines: list[str] = []
        sink = logger.add(lambda line: self.lines.append(str(line).rstrip()), format="{level}: {message}")
        outbox: Outbox[object] = Outbox(1000)
        try:
            with Crew() as crew:
                rings = Rings()
                worker = Worker(detector, rings, outbox)
                crew.start("infer", worker.run)
                fleet = Fleet(
                    RunningModel(detector, 1.0), rings, worker, lambda lane, event, reason, detail: None
                )
                fleet.apply(fleet.difference([config]), [config], crew)
                assert crew.join("decode:", Deadline(60))
                rings.close(drain=True)
                assert crew.join("infer", Deadline(60))
            assert crew.failure is None
        finally:
            logger.remove(sink)
        outbox.close()
        self.numbers: list[int] = []
        while (items := outbox.take(0.2)) is not None:
            for item in items:
                assert isinstance(item, Result)
                names = [item.labels[int(i)] for i in item.detections.class_ids]
                self.numbers.append(number_in(names))

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if line.startswith("WARNING")]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PretendedDevice:
    device = PretendedDevice()
    monkeypatch.setattr(hardware, "accelerated", device.decoder)
    monkeypatch.setattr(fleet_module, "CudaDevice", lambda number: device)
    return device


def test_a_stream_is_decoded_where_its_model_runs(tmp_path: Path, device: PretendedDevice) -> None:
    played = Played(tmp_path, on_gpu=True)
    assert played.numbers == list(range(FRAMES))
    assert played.far.moved == FRAMES * played.size
    assert played.warnings == []


@pytest.mark.parametrize("asked", ["auto", "none"])
def test_who_does_not_ask_for_it_has_the_processor(
    tmp_path: Path, device: PretendedDevice, asked: str
) -> None:
    played = Played(tmp_path, on_gpu=True, hardware=asked)
    assert played.numbers == list(range(FRAMES))
    assert (played.far.moved, device.decoders) == (0, [])


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_where_the_model_runs_on_the_processor_nothing_is_tried(
    tmp_path: Path, device: PretendedDevice, asked: str
) -> None:
    played = Played(tmp_path, on_gpu=False, hardware=asked)
    assert played.numbers == list(range(FRAMES))
    assert device.decoders == []
    said = [line for line in played.lines if "hardware" in line]
    assert said == (
        [
            "INFO: film: hardware: cuda: the model runs on no GPU, where its pictures would be wanted; "
            "decoding on the CPU"
        ]
        if asked == "cuda"
        else []
    )


def test_a_gpu_that_writes_nonsense_is_a_warning_and_costs_no_result(
    tmp_path: Path, device: PretendedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Idle:
        def __init__(self, graph: bytes) -> None:
            self.io_binding = create_whole(graph, ("CPUExecutionProvider", {})).io_binding

        def run_with_iobinding(self, binding: object) -> None:
            pass

    monkeypatch.setattr(device, "session", Idle)
    played = Played(tmp_path, on_gpu=True)
    assert played.numbers == list(range(FRAMES))
    assert played.far.moved == 0
    (warning,) = played.warnings
    assert warning.startswith("WARNING: film: hardware: picture 0 differs from the processor's by ")
    assert warning.endswith("; decoding on the CPU")
