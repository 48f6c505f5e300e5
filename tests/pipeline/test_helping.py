"""Decoders that serve in the worker's place, where the model takes less than to wake another thread."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from streamd.pipeline.ledger import Drop
from streamd.pipeline.ring import PATIENCE_S
from tests.support.frames import frame_of, lane_of
from tests.support.working import WAIT_S, Path, TimedDetector


def until(reached: Callable[[], bool]) -> None:
    """Wait until the callable says so, for a while."""
    deadline = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def asleep(path: Path) -> bool:
    return path.rings._idle


@pytest.mark.parametrize("light", [True, False])
def test_who_brings_a_frame_runs_a_light_model_itself(light: bool) -> None:
    served: list[int] = []
    detector = TimedDetector(1, lambda _: served.append(threading.get_ident()), light=light)
    with Path(detector) as path:
        until(lambda: asleep(path))
        path.put(path.lanes[0])
        if light:
            assert len(path.results()) == 1  # by the time that `put` returned
    assert (served == [threading.get_ident()]) == light
    assert len(served) == 1


def test_a_failure_is_the_workers_and_not_the_decoders() -> None:
    def during(_: int) -> None:
        raise RuntimeError("the device is gone")

    with Path(TimedDetector(1, during, light=True)) as path:
        until(lambda: asleep(path))
        path.put(path.lanes[0])
        path.threads[0].join(WAIT_S)
        path.put(path.lanes[0])
        path.outbox.close()
    assert [str(error) for error in path.failures] == ["the device is gone"]


def test_a_decoder_does_not_wait_for_a_slow_subscriber() -> None:
    detector = TimedDetector(1, lambda _: None, light=True)
    with Path(detector, room=1) as path:
        for _ in range(20):
            path.put(path.lanes[0])  # never blocks
        path.outbox.close()
    counts = path.lanes[0].ledger.snapshot()
    assert counts.in_flight == 0
    assert counts.published == 1
    assert counts.dropped[Drop.SHUTDOWN] == 19


def test_a_decoder_goes_back_to_its_own_work() -> None:
    """However many frames the others bring meanwhile."""
    own = threading.get_ident()
    by_us: list[int] = []

    def during(_: int) -> None:
        if threading.get_ident() == own:
            by_us.append(1)
            for _ in range(3):
                path.put(path.lanes[1])

    detector = TimedDetector(1, during, light=True)
    with Path(detector, streams=2) as path:
        until(lambda: asleep(path))
        path.put(path.lanes[0])
        assert 1 < len(by_us) < 20
    assert len(path.results()) == 1 + 3 * len(by_us)


def test_a_new_detector_is_taken_over_by_the_worker_while_decoders_serve() -> None:
    former = TimedDetector(1, lambda _: None, "former", light=True)
    later = TimedDetector(1, lambda _: None, "later", light=True)
    adopted: list[int] = []
    with Path(former) as path:
        until(lambda: asleep(path))
        path.put(path.lanes[0])
        path.worker.exchange(later.as_detector(), 0, lambda: adopted.append(threading.get_ident()))
        for _ in range(5):
            path.put(path.lanes[0])
    assert adopted == [path.threads[0].ident]
    assert [result.model for result in path.results()] == ["former"] + ["later"] * 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_every_frame_comes_out_once_and_in_order_whoever_serves(seed: int) -> None:
    rng = random.Random(seed)
    detector = TimedDetector(1, lambda _: time.sleep(rng.choice([0, 0, 0.0005])), limit=4, light=True)
    frames = 300
    with Path(detector, room=rng.choice([3, 10_000])) as path:
        lanes = [lane_of(str(number), live=False) for number in range(5)]
        for lane in lanes[3:]:
            lane.urgent = False
        found: dict[str, list[int]] = {lane.stream: [] for lane in lanes}

        def bring(index: int) -> None:
            lane = lanes[index]
            ring = path.rings.add(lane, 1 + index)
            pauses = random.Random(seed * 10 + index)
            for _ in range(frames):
                time.sleep(pauses.choice([0, 0, 0, 0.0002, 0.002]))
                ring.put_wait_for_room(frame_of(lane))

        sources = [threading.Thread(target=bring, args=(index,)) for index in range(len(lanes))]
        for source in sources:
            source.start()
        last_s = time.monotonic()
        while sum(map(len, found.values())) < frames * len(lanes):
            results = path.results()
            for result in results:
                found[result.frame.lane.stream].append(result.frame.number)
            if results:
                last_s = time.monotonic()
            assert time.monotonic() - last_s < 20 * PATIENCE_S, "frames wait and nobody serves them"
            time.sleep(0.001)
        for source in sources:
            source.join(WAIT_S)
    assert detector.most_inside == 1
    assert all(numbers == list(range(frames)) for numbers in found.values())
    assert all(lane.ledger.snapshot().in_flight == 0 and lane.slots.in_use() == 0 for lane in lanes)
