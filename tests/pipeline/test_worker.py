"""The worker: order, runs side by side, ends. The detector is a stand-in: no real model takes the times asked."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest

from streamd.models.contract import Array, Detections
from streamd.models.detector import Detector
from streamd.pipeline.lane import Lane
from streamd.pipeline.ledger import Drop
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.worker import Worker
from tests.support.frames import frame_of, lane_of

_WAIT_S = 20.0
_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


class TimedDetector:
    """Calls `during` with the first pixel of each batch's first picture, and finds nothing."""

    labels = ("thing",)
    provider = "none"
    gate = None

    def __init__(self, runs: int, during: Callable[[int], None], name: str = "timed", limit: int = 1) -> None:
        self.runs, self.name, self.limit = runs, name, limit
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

    def read(self, *_: object) -> Detections:
        return _NOTHING

    def as_detector(self) -> Detector:
        return cast(Detector, self)


class Path:
    """Rings, outbox and a worker with its threads; joined at the end of the block."""

    def __init__(self, detector: TimedDetector, streams: int = 1, frames: int = 0) -> None:
        self.rings, self.outbox = Rings(), Outbox[None](10_000)
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
            thread.join(_WAIT_S)
        assert not any(thread.is_alive() for thread in self.threads)

    def results(self) -> list[Result]:
        return [item for item in self.outbox.take(0) or [] if isinstance(item, Result)]


def test_results_come_in_order_whichever_run_is_done_first() -> None:
    rng = random.Random(3)
    detector = TimedDetector(4, lambda _: time.sleep(rng.random() / 100))
    with Path(detector, streams=3, frames=60) as path:
        pass
    found: dict[str, list[tuple[int, int]]] = {}
    for result in path.results():
        found.setdefault(result.frame.lane.stream, []).append((result.frame.number, result.seq))
    assert found == {lane.stream: [(number, number) for number in range(60)] for lane in path.lanes}
    assert detector.most_inside > 1
    assert path.lasts.count(True) == 1
    assert len(path.lasts) == 4
    for lane in path.lanes:
        assert lane.slots.in_use() == 0
        assert lane.ledger.snapshot().in_flight == 0


def test_a_slow_run_holds_up_no_other_as_far_as_results_may_wait() -> None:
    others = threading.Semaphore(0)

    def during(number: int) -> None:
        if number:
            others.release()
            return
        for _ in range(3):  # twice as many are on their way as run side by side, this one included
            assert others.acquire(timeout=_WAIT_S)
        assert not others.acquire(timeout=0.2)

    with Path(TimedDetector(2, during), frames=20) as path:
        pass
    assert not path.failures
    assert [result.seq for result in path.results()] == list(range(20))


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_as_many_run_side_by_side_as_the_detector_allows(runs: int) -> None:
    together = threading.Barrier(runs)
    detector = TimedDetector(runs, lambda _: cast(None, together.wait(_WAIT_S)))
    with Path(detector, frames=10 * runs) as path:
        pass
    assert len(path.results()) == 10 * runs
    assert detector.most_inside == runs


def test_a_new_detector_starts_when_the_former_is_nobodys() -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    def during(_: int) -> None:
        entered.release()
        assert gate.wait(_WAIT_S)

    former = TimedDetector(2, during, "former")
    later = TimedDetector(1, lambda _: time.sleep(0.001), "later")
    inside_when_adopted: list[int] = []
    with Path(former, frames=2) as path:
        for _ in range(2):
            assert entered.acquire(timeout=_WAIT_S)
        path.worker.exchange(later.as_detector(), 0, lambda: inside_when_adopted.append(former.inside))
        for _ in range(20):
            path.put(path.lanes[0])
        time.sleep(0.05)
        assert not inside_when_adopted
        gate.set()
    assert inside_when_adopted == [0]
    models = [result.model for result in path.results()]
    assert models == ["former"] * 2 + ["later"] * 20
    assert later.most_inside == 1


def test_a_new_detector_gets_as_many_threads_as_it_can_use() -> None:
    together = threading.Barrier(3)
    former = TimedDetector(1, lambda _: None, "former")
    later = TimedDetector(3, lambda _: cast(None, together.wait(_WAIT_S)), "later")
    with Path(former) as path:
        path.worker.exchange(later.as_detector(), 0, lambda: None)
        assert path.worker.threads == 3
        path.start_missing()
        for _ in range(30):
            path.put(path.lanes[0])
    assert {result.model for result in path.results()} == {"later"}
    assert later.most_inside == 3
    assert path.lasts.count(True) == 1
    assert len(path.lasts) == 3


@pytest.mark.parametrize("runs", [1, 3])
def test_a_batch_too_large_for_a_new_detector_of_the_same_number_is_run_in_parts_and_in_order(
    runs: int,
) -> None:
    """It was taken while the former detector was still there."""
    gate, entered = threading.Event(), threading.Semaphore(0)
    rng = random.Random(5)

    def during(_: int) -> None:
        entered.release()
        assert gate.wait(_WAIT_S)

    former = TimedDetector(runs, during, "former", limit=8)
    later = TimedDetector(runs, lambda _: time.sleep(rng.random() / 100), "later", limit=3)
    with Path(former) as path:
        for _ in range(runs):
            path.put(path.lanes[0])
            assert entered.acquire(timeout=_WAIT_S)
        path.worker.exchange(later.as_detector(), 0, lambda: None)
        for _ in range(20):
            path.put(path.lanes[0])
        gate.set()
    results = path.results()
    assert [result.model for result in results] == ["former"] * runs + ["later"] * 20
    assert [result.frame.number for result in results] == list(range(runs + 20))
    assert later.most_inside <= runs
    assert path.lanes[0].slots.in_use() == 0


def test_one_run_that_fails_ends_all_and_loses_no_count() -> None:
    entered = threading.Semaphore(0)

    def during(number: int) -> None:
        entered.release()
        if number == 0:
            for _ in range(3):
                assert entered.acquire(timeout=_WAIT_S)
            raise RuntimeError("the device is gone")

    with Path(TimedDetector(3, during), frames=30) as path:
        path.threads[0].join(0.2)
        path.outbox.close()
    assert [str(error) for error in path.failures] == ["the device is gone"]
    assert path.results() == []
    counts = path.lanes[0].ledger.snapshot()
    # The one that failed is nobody's: the process ends.
    assert counts.in_flight == 1
    assert counts.dropped[Drop.SHUTDOWN] == 29
