"""What it costs to hand a frame from one thread to the next."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamd.models.contract import Detections
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from tests.benchmarks.conftest import Effort
from tests.support.frames import LABELS, frame_of, lane_of

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def beside(giving: Callable[[], None], taking: Callable[[], int]) -> int:
    """`giving` in a thread of its own while this one takes; how many came."""
    giver = threading.Thread(target=giving)
    giver.start()
    taken = taking()
    giver.join()
    return taken


@pytest.mark.benchmark(group="hand over between two threads")
@pytest.mark.parametrize("streams", [1, 16])
def test_ring(streams: int, effort: Effort, benchmark: BenchmarkFixture) -> None:
    """Slot, ledger, ring, and back: the decoder's end and the worker's, without pixels and model."""
    each = effort.choose(1000, 32) // streams

    def through() -> int:
        rings = Rings()
        lanes = [lane_of(f"s{number}", slots=8, live=False) for number in range(streams)]
        ends = [rings.add(lane, 4) for lane in lanes]

        def give() -> None:
            for _ in range(each):
                for lane, ring in zip(lanes, ends, strict=True):
                    ring.put_wait_for_room(frame_of(lane))
            rings.close(drain=True)

        def take() -> int:
            taken = 0
            while (frames := rings.take(8, 1.0)) is not None:
                for frame in frames:
                    frame.slot.release()
                    frame.lane.ledger.published()
                taken += len(frames)
            return taken

        return beside(give, take)

    assert benchmark(through) == each * streams
    benchmark.extra_info["frames"] = each * streams


@pytest.mark.benchmark(group="hand over between two threads")
def test_outbox(effort: Effort, benchmark: BenchmarkFixture) -> None:
    count = effort.choose(1000, 32)
    frame = frame_of(lane_of("gate"))
    results = [Result(frame, seq, NOTHING, "m@12345678", LABELS, "cpu") for seq in range(count)]

    def through() -> int:
        outbox: Outbox[None] = Outbox(64)

        def give() -> None:
            for result in results:
                outbox.wait_for_room()
                outbox.post(result)
            outbox.close()

        def take() -> int:
            taken = 0
            while (items := outbox.take(1.0)) is not None:
                taken += len(items)
            return taken

        return beside(give, take)

    assert benchmark(through) == count
    benchmark.extra_info["results"] = count
