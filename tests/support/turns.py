"""Two ways to do one thing, taking turns: a ratio that a busy machine can not tilt to one side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def turns(ours: Callable[[], object], other: Callable[[], object], pairs: int) -> dict[str, float]:
    """How many times as long the other takes: median, least and most of all pairs. Who begins, changes each time."""
    ratios = []
    for pair in range(pairs):
        order = (ours, other) if pair % 2 == 0 else (other, ours)
        taken = {}
        for way in order:
            started = time.perf_counter_ns()
            way()
            taken[way] = time.perf_counter_ns() - started
        ratios.append(taken[other] / taken[ours])
    return {
        "pairs": pairs,
        "median": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }
