"""The whole path for pictures that a GPU has decoded: reader, slot, batch, result; beside pictures that it has not.

The GPU is host memory here, and NVDEC a decoder on the processor that leaves its pictures there (a stand-in: there is
no GPU to be had); the reader, letterbox, slots, session and head are the real ones. Each picture carries its number,
and so does each result.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from streamd.core.picture import Picture
from streamd.models import libraries
from streamd.models.chain import open_session
from streamd.models.creation import create_whole
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.device import CudaDevice, Device
from streamd.models.device_letterbox import DeviceLetterbox
from streamd.models.preprocess import Letterbox
from streamd.models.running import warmed
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.pipeline.decoder import EveryPicture, Feed
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool
from streamd.pipeline.worker import Worker
from streamd.sources import Source, SourceRequest, open_source
from streamd.sources.libav import hardware
from streamd.sources.source import Hardware
from tests.models.test_detector import number_in
from tests.support.clips import Clip, make
from tests.support.far_memory import FarMemory
from tests.support.gpu import needs_gpu
from tests.support.number_model import make_number_model
from tests.support.pretended_nvdec import PretendedDevice

pytestmark = pytest.mark.slow

FRAMES = 40


class Passage:
    """Streams through the daemon's own parts into results; `far`: where the model runs."""

    def __init__(self, folder: Path, device: Device | None) -> None:
        description = describe(make_number_model(folder / "m.onnx"))
        self.far = FarMemory()
        if isinstance(device, CudaDevice):
            options = RuntimeOptions(("cuda",), False, "fp32", device.number, folder, 4)
            session = open_session(
                description.path, description.graph, options, contract=description.contract
            )
            assert session.device == device.number
        else:
            made: Any = onnxruntime.InferenceSession(
                str(description.path), providers=["CPUExecutionProvider"]
            )
            memory = (lambda: self.far) if device is not None else None
            session = warmed(made, description.graph, 4, memory, [], lambda line: None)
        self.detector = Detector(description, session, 4)
        self.rings, self.outbox = Rings(), Outbox[object](1000)
        self.target = ModelInput(self.detector.contract, self.detector.input, 0, device)
        self._slots = 4 + self.detector.at_once + 1
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        self.notes: list[tuple[str, ...]] = []

    def play(self, name: str, request: SourceRequest, keeping: Keeping | None = None) -> Lane:
        lane = Lane(
            name, SlotPool(self.target, self._slots), rules_for(self.detector.labels), None, live=False
        )
        if keeping is not None:
            lane.keeping = keeping
        ring = self.rings.add(lane, 4)

        def body() -> None:
            try:
                stop = threading.Event()
                with open_source(request, stop) as source:
                    feed = self._feed(lane, ring, source)
                    for picture in source.pictures():
                        feed.accept(picture, stop)
                    self.notes.append(source.notes)
            except BaseException as error:  # noqa: BLE001 - told at the end
                self.failures.append(error)

        self._threads.append(threading.Thread(target=body))
        return lane

    def _feed(self, lane: Lane, ring: Any, source: Source) -> Feed:
        def there(target: ModelInput) -> DeviceLetterbox | None:
            if target.device is None:
                return None
            return DeviceLetterbox(target.contract, target.shape, target.device)

        box = lambda target: Letterbox(target.contract, target.shape)  # noqa: E731
        return Feed(lane, ring, box, EveryPicture(), source.clock, there=there)

    def results(self) -> dict[str, list[Result]]:
        worker = Worker(self.detector, self.rings, self.outbox)
        serving = threading.Thread(target=worker.run)
        for thread in (*self._threads, serving):
            thread.start()
        for thread in self._threads:
            thread.join()
        self.rings.close(drain=True)
        serving.join()
        self.outbox.close()
        assert not self.failures
        found: dict[str, list[Result]] = {}
        while (items := self.outbox.take(0.2)) is not None:
            for item in items:
                assert isinstance(item, Result)
                found.setdefault(item.frame.lane.stream, []).append(item)
        return found


def numbers(results: list[Result]) -> list[int]:
    return [number_in([result.labels[int(i)] for i in result.detections.class_ids]) for result in results]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PretendedDevice:
    device = PretendedDevice()
    monkeypatch.setattr(hardware, "accelerated", device.decoder)
    return device


def clip_of(folder: Path, name: str, first: int, **more: Any) -> str:
    return str(make(folder / f"{name}.mp4", Clip(frames=FRAMES, first=first, **more)))


def results_are_right(path: Passage, folder: Path) -> None:
    """Three streams on the GPU, of two sizes, and two on the processor, in the same batches."""
    sizes = [{}, {"width": 640, "height": 360}, {}, {"width": 642, "height": 362}, {}]
    for index, size in enumerate(sizes):
        clip = clip_of(folder, f"s{index}", 1000 * index, **size)
        path.play(f"s{index}", SourceRequest(clip, gpu=0 if index < 3 else None, hardware=Hardware.CUDA))
    found = path.results()
    for index in range(5):
        assert numbers(found[f"s{index}"]) == list(range(1000 * index, 1000 * index + FRAMES))


@pytest.mark.long
def test_results_are_right_wherever_each_picture_was_decoded(tmp_path: Path, device: PretendedDevice) -> None:
    path = Passage(tmp_path, device)
    results_are_right(path, tmp_path)
    size = int(np.prod(path.detector.input.picture))
    assert path.far.moved == 3 * FRAMES * size, "each picture of the GPU was copied there, once"
    fetched = [sum(frame.downloads for frame in decoder.frames) for decoder in device.decoders]
    assert fetched == [1, 1, 1], "only to be checked"


def test_a_picture_that_somebody_wants_is_fetched_only_then(tmp_path: Path, device: PretendedDevice) -> None:
    path = Passage(tmp_path, device)
    path.play(
        "a", SourceRequest(clip_of(tmp_path, "a", 0), gpu=0, hardware=Hardware.CUDA), Keeping(wanted=True)
    )
    found = path.results()["a"]
    kept = [result.frame.picture for result in found]
    assert len(kept) == FRAMES
    downloads = []
    for picture in kept:
        assert isinstance(picture, Picture)
        owner: Any = picture.owner
        downloads.append(owner.downloads)
        assert picture.on_host().planes[0].shape == (240, 320)
    assert downloads == [1] + [0] * (FRAMES - 1), "but for the one that the letterbox checks"


def test_a_gpu_that_writes_nonsense_costs_no_result(
    tmp_path: Path, device: PretendedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first picture shows it: the processor goes on with the very next, and not one comes twice or not at all."""

    class Idle:
        def __init__(self, session: Any) -> None:
            self.io_binding = session.io_binding

        def run_with_iobinding(self, binding: object) -> None:
            pass

    monkeypatch.setattr(
        device, "session", lambda graph: Idle(create_whole(graph, ("CPUExecutionProvider", {})))
    )
    path = Passage(tmp_path, device)
    path.play(
        "a",
        SourceRequest(clip_of(tmp_path, "a", 0, b_frames=2), gpu=0, hardware=Hardware.CUDA),
        Keeping(wanted=True),
    )
    results = path.results()["a"]
    assert numbers(results) == list(range(FRAMES))
    assert path.far.moved == 0, "no picture came from that memory"
    kept = [result.frame.picture for result in results]
    assert [picture.device is not None for picture in kept if picture is not None] == [True] + [False] * (
        FRAMES - 1
    )
    (notes,) = path.notes
    assert len(notes) == 1
    assert notes[0].startswith("hardware: picture 0 differs from the processor's by ")
    assert notes[0].endswith("; decoding on the CPU")


def test_a_model_on_the_processor_gets_pictures_of_a_gpu_as_well(
    tmp_path: Path, device: PretendedDevice
) -> None:
    """They are fetched; nobody asks for that, but nothing breaks."""
    path = Passage(tmp_path, None)
    path.play("a", SourceRequest(clip_of(tmp_path, "a", 0), gpu=0, hardware=Hardware.CUDA))
    assert numbers(path.results()["a"]) == list(range(FRAMES))


@pytest.mark.gpu
@needs_gpu
def test_results_are_right_on_a_gpu(tmp_path: Path) -> None:
    """NVDEC, the letterbox on CUDA, and the model on CUDA; no stream falls back."""
    libraries.load(libraries.CUDA)
    path = Passage(tmp_path, CudaDevice(0))
    results_are_right(path, tmp_path)
    assert path.notes == [()] * 5
