"""From an H.264 clip to results without a picture leaving the GPU. Needs PyAV and OpenCV."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from streamd.core.picture import Picture
from streamd.models.contract import Placement
from streamd.models.detector import Detector
from streamd.models.device import CudaDevice, Device
from streamd.models.memory import DeviceArray
from streamd.models.selection import rules_for
from streamd.pipeline.decoder import DevicePreparer, EveryPicture, Feed
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool
from streamd.pipeline.worker import Worker
from tools.gpu_report.decoding import RATE, SIZE, write_clip
from tools.gpu_report.measure import Bench, NotMeasuredError, opened

_STREAMS = (1, 4, 16)
_SECONDS = 10
_COMPARED = 60


@dataclass(slots=True)
class Passage:
    """What a run of some streams came to."""

    results: int = 0
    seconds: float = 0.0
    there: int = 0
    """Pictures that were written into their slots on the GPU."""
    notes: list[str] = field(default_factory=list)
    """What decoded otherwise than asked."""


def rows(bench: Bench) -> Iterator[tuple[str, str]]:
    """Whether NVDEC's pictures are libav's, and how many streams it takes. Raises NotMeasuredError."""
    if bench.provider == "cpu":
        raise NotMeasuredError("needs a GPU; this ran with --cpu")
    try:
        from streamd.models.device_letterbox import DeviceLetterbox  # noqa: F401 - to know whether it can be had
    except ImportError as error:
        raise NotMeasuredError(f"{error.name} is not installed") from error
    clip = bench.folder / "nvdec.mp4"
    write_clip(clip, SIZE, _SECONDS * RATE)
    with opened(bench, bench.detector, bench.options(batch=bench.buckets[-1])) as (description, session):
        detector = Detector(description, session, session.batch)
        same, compared = equal_pictures(clip, bench.device)
        yield (
            "decoded by NVDEC against decoded by libav, bit for bit",
            f"{same} of {compared} pictures are the same",
        )
        for streams in _STREAMS:
            passage = run(detector, CudaDevice(bench.device), clip, streams)
            yield from _row(passage, streams, "decoded on the GPU, and left there")
        passage = run(detector, None, clip, _STREAMS[-1])
        yield from _row(passage, _STREAMS[-1], "decoded on the processor")


def _row(passage: Passage, streams: int, how: str) -> Iterator[tuple[str, str]]:
    per_s = passage.results / passage.seconds
    result = f"{per_s:.0f} pictures/s: {per_s / RATE:.0f} streams of {RATE} a second"
    if passage.there:
        result += f"; {passage.there} of {passage.results} pictures stayed on the GPU"
    if passage.notes:
        result += f"; {passage.notes[0]}"
    yield f"H.264, {SIZE[0]} x {SIZE[1]}, {streams} streams, {how}", result


def equal_pictures(clip: Path, gpu: int) -> tuple[int, int]:
    """How many of the clip's first pictures both decoders give alike, and of how many."""
    from streamd.sources import SourceRequest, open_source
    from streamd.sources.source import Hardware

    same = compared = 0
    stop = threading.Event()
    with (
        open_source(SourceRequest(str(clip), gpu=gpu, hardware=Hardware.CUDA), stop) as there,
        open_source(SourceRequest(str(clip)), stop) as here,
    ):
        pairs = zip(range(_COMPARED), there.pictures(), here.pictures(), strict=False)
        for _, one, other in pairs:
            if one.device is None:
                raise NotMeasuredError("; ".join(there.notes))
            luma, chroma = one.on_host().planes
            planes = (luma, chroma[..., 0], chroma[..., 1])
            same += all(np.array_equal(*pair) for pair in zip(planes, other.planes, strict=True))
            compared += 1
    return same, compared


class _Counted:
    """What writes pictures on the GPU, and counts those that it wrote."""

    def __init__(self, box: DevicePreparer, passage: Passage, lock: threading.Lock) -> None:
        self._box, self._passage, self._lock = box, passage, lock

    def write(self, picture: Picture, there: DeviceArray | None) -> tuple[DeviceArray, Placement] | None:
        written = self._box.write(picture, there)
        if written is not None:
            with self._lock:
                self._passage.there += 1
        return written


def run(detector: Detector, device: Device | None, clip: Path, streams: int) -> Passage:
    """The clip in `streams` threads at once, through streamd's own parts, no picture lost.

    device: what decodes and letterboxes; None: the processor.
    """
    from streamd.models.device_letterbox import DeviceLetterbox
    from streamd.models.preprocess import Letterbox
    from streamd.sources import SourceRequest, open_source
    from streamd.sources.source import Hardware

    passage, lock = Passage(), threading.Lock()  # guards `there` and `notes`, which all streams write
    rings, outbox, stop = Rings(), Outbox[object](256), threading.Event()
    target = ModelInput(detector.contract, detector.input, 0, device)
    request = SourceRequest(str(clip))
    if device is not None:
        request = replace(request, gpu=device.number, hardware=Hardware.CUDA)

    def there(target: ModelInput) -> DevicePreparer | None:
        if target.device is None:
            return None
        return _Counted(DeviceLetterbox(target.contract, target.shape, target.device), passage, lock)

    def here(target: ModelInput) -> Letterbox:
        return Letterbox(target.contract, target.shape)

    def decode(lane: Lane) -> None:
        ring = rings.add(lane, 4)
        with open_source(request, stop) as source:
            feed = Feed(lane, ring, here, EveryPicture(), source.clock, there=there)
            for picture in source.pictures():
                feed.accept(picture, stop)
            with lock:
                passage.notes += source.notes

    def count(size: int) -> None:
        passage.results += size

    def empty() -> None:
        while outbox.take(0.2) is not None:
            pass

    rules, slots = rules_for(detector.labels), 4 + detector.at_once + 1
    lanes = [Lane(str(number), SlotPool(target, slots), rules, None, live=False) for number in range(streams)]
    worker = Worker(detector, rings, outbox, on_batch=count)
    decoders = [threading.Thread(target=decode, args=(lane,)) for lane in lanes]
    serving, emptying = threading.Thread(target=worker.run), threading.Thread(target=empty)
    started = time.perf_counter()
    for thread in (*decoders, serving, emptying):
        thread.start()
    for thread in decoders:
        thread.join()
    rings.close(drain=True)
    serving.join()
    passage.seconds = time.perf_counter() - started
    outbox.close()
    emptying.join()
    return passage
