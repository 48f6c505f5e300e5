"""The worker: order, runs side by side, ends. The detector is a stand-in: no real model takes the times asked."""

from __future__ import annotations

import random
import threading
import time
from typing import cast

import pytest

from streamd.pipeline.ledger import Drop
from tests.support.working import WAIT_S, Path, TimedDetector


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
            assert others.acquire(timeout=WAIT_S)
        assert not others.acquire(timeout=0.2)

    with Path(TimedDetector(2, during), frames=20) as path:
        pass
    assert not path.failures
    assert [result.seq for result in path.results()] == list(range(20))


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_as_many_run_side_by_side_as_the_detector_allows(runs: int) -> None:
    together = threading.Barrier(runs)
    detector = TimedDetector(runs, lambda _: cast(None, together.wait(WAIT_S)))
    with Path(detector, frames=10 * runs) as path:
        pass
    assert len(path.results()) == 10 * runs
    assert detector.most_inside == runs


def test_a_new_detector_starts_when_the_former_is_nobodys() -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    def during(_: int) -> None:
        entered.release()
        assert gate.wait(WAIT_S)

    former = TimedDetector(2, during, "former")
    later = TimedDetector(1, lambda _: time.sleep(0.001), "later")
    inside_when_adopted: list[int] = []
    with Path(former, frames=2) as path:
        for _ in range(2):
            assert entered.acquire(timeout=WAIT_S)
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
    later = TimedDetector(3, lambda _: cast(None, together.wait(WAIT_S)), "later")
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
        assert gate.wait(WAIT_S)

    former = TimedDetector(runs, during, "former", limit=8)
    later = TimedDetector(runs, lambda _: time.sleep(rng.random() / 100), "later", limit=3)
    with Path(former) as path:
        for _ in range(runs):
            path.put(path.lanes[0])
            assert entered.acquire(timeout=WAIT_S)
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
                assert entered.acquire(timeout=WAIT_S)
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
