"""The arithmetic of the estimate, and the search, on boxes whose capacity is known."""

from __future__ import annotations

import pytest

from streamd.benchmark.capacity import Demand, Held, estimate, search
from streamd.benchmark.passes import Cost
from streamd.core.timing import Stage, Stamps

MS = 1_000_000


def cost_of(*, decode_ms: float, infer_ms: float, other_ms: float, infer_wall_ms: float) -> Cost:
    """100 frames, each of which took so much: preprocess and postprocess a millisecond each."""
    cost = Cost(frames=100, seconds=1.0)
    each = {Stage.DECODE: decode_ms, Stage.PREPROCESS: 1, Stage.INFER: infer_ms, Stage.POSTPROCESS: 1}
    cost.stages_ns = {stage: int(ms * MS * 100) for stage, ms in each.items()}
    cost.cpu_ns = sum(cost.stages_ns.values()) + int(other_ms * MS * 100)
    for _ in range(100):
        wall = int(infer_wall_ms * MS)
        cost.times.add(Stamps(received=1, decoded=1, prepared=1, run=1, inferred=1 + wall, posted=1 + wall))
    return cost


def test_cores_are_the_limit() -> None:
    """4 + 1 + 2 + 1 + 2 = 10 ms a frame, 25 a second: a quarter of a core each, 16 on four cores."""
    cost = cost_of(decode_ms=4, infer_ms=2, other_ms=2, infer_wall_ms=0.2)
    found = estimate(cost, Demand(25, 25, 4), 1)
    assert found.by_cpu == pytest.approx(16)
    assert found.bound == "decode"


def test_every_picture_is_decoded_whatever_is_asked_for() -> None:
    """At 5 of 25 a second: 25 * 4 + 5 * 6 = 130 ms a second."""
    cost = cost_of(decode_ms=4, infer_ms=2, other_ms=2, infer_wall_ms=0.2)
    assert estimate(cost, Demand(5, 25, 4), 1).by_cpu == pytest.approx(4 / 0.130)


def test_the_one_worker_is_the_limit() -> None:
    """10 ms of a GPU and 1 ms of reading: 90 a second, not four cameras of 25. Quantiles are 9 % too high at most."""
    cost = cost_of(decode_ms=1, infer_ms=0.1, other_ms=0.1, infer_wall_ms=10)
    found = estimate(cost, Demand(25, 25, 16), 1)
    assert 1 / (25 * 0.0119) <= found.by_worker <= 1 / (25 * 0.011)
    assert found.cameras == 3
    assert found.bound == "infer"
    # In batches of 8 the same wall time is of 8 pictures.
    assert estimate(cost, Demand(25, 25, 16), 8).by_worker > 5 * found.by_worker / 2


def test_overhead_can_be_the_bound() -> None:
    cost = cost_of(decode_ms=1, infer_ms=1, other_ms=9, infer_wall_ms=0.1)
    assert estimate(cost, Demand(25, 25, 2), 1).bound == "overhead"


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 7, 12, 13, 40])
@pytest.mark.parametrize("start", [1, 2, 12, 30])
def test_the_search_never_claims_too_much(capacity: int, start: int) -> None:
    tried: list[int] = []

    def holds(cameras: int) -> float:
        assert cameras >= 1
        assert cameras not in tried
        tried.append(cameras)
        return 1.0 if cameras <= capacity else capacity / cameras

    found = search(start, 20, holds)
    assert found == Held(capacity, True)
    assert capacity == 0 or capacity in tried
    assert capacity + 1 in tried


def test_the_search_gives_up_and_says_so() -> None:
    tried: list[int] = []

    def holds(cameras: int) -> float:
        tried.append(cameras)
        return 1.0

    assert search(4, 3, holds) == Held(9, False)
    assert tried == [4, 6, 9]


def test_what_is_known_to_hold_is_not_run_again() -> None:
    tried: list[int] = []

    def holds(cameras: int) -> float:
        tried.append(cameras)
        return 0.9

    assert search(2, 5, holds, held=1) == Held(1, True)
    assert tried == [2]
