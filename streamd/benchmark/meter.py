"""Counts the CPU time of the four stages that do a frame's work, while the whole path runs.

Each stage runs in one thread of ours, whose own clock is read before and after; pools that libraries keep are
counted besides: libav's threads to decode, the session's to infer. Whatever the process spends beyond that is
overhead: threads, queues, results, encoding, the interpreter's lock. Two things are not told apart: what our reader
does in Python around libav counts as decode (tests/benchmarks compares it with PyAV alone), and OpenCV's pool, if it
has any work, counts as overhead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

from streamd.benchmark import proc
from streamd.core.picture import Picture
from streamd.core.timing import Stage
from streamd.models.contract import Array, Detections, Placement
from streamd.models.description import Description
from streamd.models.detector import Detector
from streamd.models.memory import DeviceArray
from streamd.models.running import Session
from streamd.models.selection import Rules, Sight
from streamd.pipeline.decoder import Preparer
from streamd.pipeline.slots import ModelInput
from streamd.service.configured import letterbox
from streamd.sources import Source, SourceRequest, open_source

STAGES = (Stage.DECODE, Stage.PREPROCESS, Stage.INFER, Stage.POSTPROCESS)


class Meter:
    """CPU nanoseconds by stage, rising. Any thread may add and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_spent`
        self._spent = dict.fromkeys(STAGES, 0)
        self._session_threads: set[int] = set()

    def add(self, stage: Stage, cpu_ns: int) -> None:
        """Count so much more."""
        with self._lock:
            self._spent[stage] += cpu_ns

    def session_is(self, threads: set[int]) -> None:
        """These threads of the process work for the session."""
        self._session_threads = threads

    def reading(self) -> Mapping[Stage, int]:
        """All stages so far."""
        with self._lock:
            spent = dict(self._spent)
        spent[Stage.INFER] += proc.threads_cpu_ns(self._session_threads)
        return spent

    # -- the parts of the path, metered ----------------------------------------------------------------

    def detector(self, description: Description, session: Session, limit: int) -> Detector:
        """As `Detector`."""
        return _Detector(description, session, limit, self)

    def preparer(self, target: ModelInput) -> Preparer:
        """As `streamd.service.configured.letterbox`."""
        return _Preparer(letterbox(target), self)

    def open_source(self, request: SourceRequest, stop: threading.Event) -> Source:
        """As `streamd.sources.open_source`."""
        before = proc.foreign_threads()
        started = time.thread_time_ns()
        source = open_source(request, stop)
        self.add(Stage.DECODE, time.thread_time_ns() - started)
        return cast(Source, _Source(source, self, proc.foreign_threads() - before))


class _Detector(Detector):
    def __init__(self, description: Description, session: Session, limit: int, meter: Meter) -> None:
        super().__init__(description, session, limit)
        self._meter = meter

    def run(self, pictures: Sequence[Array | DeviceArray], place: int = 0) -> list[Array]:
        started = time.thread_time_ns()
        outputs = super().run(pictures, place)
        self._meter.add(Stage.INFER, time.thread_time_ns() - started)
        return outputs

    def read(
        self, outputs: Sequence[Array], row: int, placement: Placement, size: tuple[int, int], rules: Rules
    ) -> Detections:
        started = time.thread_time_ns()
        found = super().read(outputs, row, placement, size, rules)
        self._meter.add(Stage.POSTPROCESS, time.thread_time_ns() - started)
        return found

    def read_batch(self, outputs: Sequence[Array], sights: Sequence[Sight]) -> list[Detections]:
        started = time.thread_time_ns()
        found = super().read_batch(outputs, sights)
        self._meter.add(Stage.POSTPROCESS, time.thread_time_ns() - started)
        return found


class _Preparer:
    def __init__(self, inner: Preparer, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement:
        started = time.thread_time_ns()
        placement = self._inner.write(picture, pixels, previous)
        self._meter.add(Stage.PREPROCESS, time.thread_time_ns() - started)
        return placement


class _Source:
    """An opened source whose reading is counted; all else is the source's own."""

    def __init__(self, inner: Source, meter: Meter, threads: set[int]) -> None:
        self._inner = inner
        self._meter = meter
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pictures(self) -> Iterator[Picture]:
        pictures = self._inner.pictures()
        while True:
            started = time.thread_time_ns()
            picture = next(pictures, None)
            self._meter.add(Stage.DECODE, time.thread_time_ns() - started)
            if picture is None:
                return
            yield picture

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Before they end. A thread of ours that was only being started when they were counted is known by now.
        self._meter.add(Stage.DECODE, proc.threads_cpu_ns(self._threads & proc.foreign_threads()))
        self._inner.close()
