"""A worker with its rings and outbox. The detector is a stand-in: no real model takes the times asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from streamd.models.contract import Array, Detections
from streamd.models.detector import Detector
from streamd.models.selection import Sight
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.worker import Worker
from tests.support.frames import frame_of, lane_of

WAIT_S = 20.0
_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


class TimedDetector:
    """Calls `during` with the first pixel of each batch's first picture, and finds nothing."""

    labels = ("thing",)
    provider = "none"
    gate = None

    def __init__(
        self,
        runs: int,
        during: Callable[[int], None],
        name: str = "timed",
        limit: int = 1,
        *,
        light: bool = False,
    ) -> None:
        self.runs, self.name, self.limit, self.light = runs, name, limit, light
        self._during = during
        self._lock = threading.Lock()
        self.inside = self.most_inside = 0

    def run(self, pictures: Sequence[Array], place: int) -> list[Array]:
        assert 0 <= place < self.runs
        assert 0 < len(pictures) <= self.limit
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            self._during(int(pictures[0][0, 0, 0]))
        finally:
            with self._lock:
                self.inside -= 1
        return []

    def read_batch(self, _: object, sights: Sequence[Sight]) -> list[Detections]:
        return [_NOTHING for _ in sights]

    def as_detector(self) -> Detector:
        return cast(Detector, self)


class Path:
    """Rings, outbox and a worker with its threads; joined at the end of the block."""

    def __init__(
        self, detector: TimedDetector, streams: int = 1, frames: int = 0, *, room: int = 10_000
    ) -> None:
        self.rings, self.outbox = Rings(), Outbox[None](room)
        self.lanes = [lane_of(str(index), slots=100) for index in range(streams)]
        self._in = {lane.stream: self.rings.add(lane, 100) for lane in self.lanes}
        for _ in range(frames):
            for lane in self.lanes:
                self.put(lane)
        self.worker = Worker(detector.as_detector(), self.rings, self.outbox)
        self.failures: list[BaseException] = []
        self.lasts: list[bool] = []
        self.threads: list[threading.Thread] = []

    def start_missing(self) -> None:
        """As many threads as the worker wants by now."""
        for _ in range(len(self.threads), self.worker.threads):
            self.threads.append(threading.Thread(target=self._run))
            self.threads[-1].start()

    def put(self, lane: Lane) -> None:
        self._in[lane.stream].put_newest_wins(frame_of(lane))

    def _run(self) -> None:
        try:
            self.lasts.append(self.worker.run())
        except RuntimeError as error:
            self.failures.append(error)

    def __enter__(self) -> Path:
        self.start_missing()
        return self

    def __exit__(self, *_: object) -> None:
        self.rings.close(drain=True)
        for thread in self.threads:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in self.threads)

    def results(self) -> list[Result]:
        return [item for item in self.outbox.take(0) or [] if isinstance(item, Result)]
