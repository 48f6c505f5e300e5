"""What the durations of many frames come to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamd.core.timing import NS_PER_MS, NS_PER_S, Stage, Stamps

_AT_ONCE = 256  # frames
# 8 steps per doubling from 1 us to about 70 s: a quantile is at most 9 % off.
_BOUNDS_NS = (1000 * 2 ** (np.arange(8 * 26) / 8)).astype(np.int64)


class Histogram:
    """Durations in log-linear buckets; fixed memory, quantiles within 9 %. One thread at a time."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_BOUNDS_NS) + 1, np.int64)
        self.count = 0
        self.sum_ns = 0
        self.max_ns = 0

    def add(self, durations_ns: NDArray[np.int64]) -> None:
        """Count durations [n], n at least 1; those below 0 as 0."""
        durations_ns = np.maximum(durations_ns, 0)
        places = np.searchsorted(_BOUNDS_NS, durations_ns)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self.count += len(durations_ns)
        self.sum_ns += int(durations_ns.sum())
        self.max_ns = max(self.max_ns, int(durations_ns.max()))

    def quantile_ms(self, q: float) -> float | None:
        """The duration in milliseconds that a share `q` of all does not exceed; None when empty."""
        if not self.count:
            return None
        index = int(np.searchsorted(self._counts.cumsum(), max(1, q * self.count)))
        bound = int(_BOUNDS_NS[index]) if index < len(_BOUNDS_NS) else self.max_ns
        return min(bound, self.max_ns) / NS_PER_MS

    def mean_ms(self) -> float | None:
        """The mean duration in milliseconds; None when empty."""
        return self.sum_ns / self.count / NS_PER_MS if self.count else None

    def at_most(self, bounds_s: Sequence[float]) -> list[int]:
        """How many durations are at most each of the rising `bounds_s`, in seconds (cumulative)."""
        below = np.concatenate([[0], self._counts.cumsum()])
        totals: list[int] = below[_ends(tuple(bounds_s))].tolist()
        return totals


@cache
def _ends(bounds_s: tuple[float, ...]) -> NDArray[np.intp]:
    """Of each bound, how many buckets lie below it. Few kinds of bounds are ever asked for."""
    return np.searchsorted(_BOUNDS_NS, np.array(bounds_s) * NS_PER_S, side="right")


class StageTimes:
    """A histogram per stage; any thread may add and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._stages = {stage: Histogram() for stage in Stage}
        self._recent = Histogram()
        # Counted many at a time, or when somebody asks: one by one it would cost as much as a frame's message.
        self._uncounted: list[tuple[int, ...]] = []

    def add(self, stamps: Stamps) -> None:
        """Count the stages of one frame that was published."""
        with self._lock:
            self._uncounted.append(stamps.stages_ns())
            if len(self._uncounted) >= _AT_ONCE:
                self._count()

    def _count(self) -> None:
        if self._uncounted:
            durations = np.array(self._uncounted, np.int64).T
            self._uncounted.clear()
            for histogram, of_stage in zip(self._stages.values(), durations, strict=True):
                histogram.add(of_stage)
            self._recent.add(durations[-1])

    def take_recent_p99_ms(self) -> float | None:
        """The 99th percentile of `total` since the last call; None when nothing was published."""
        with self._lock:
            self._count()
            recent, self._recent = self._recent, Histogram()
        return recent.quantile_ms(0.99)

    def quantile_ms(self, stage: Stage, q: float) -> float | None:
        """See `Histogram.quantile_ms`."""
        with self._lock:
            self._count()
            return self._stages[stage].quantile_ms(q)

    def mean_ms(self, stage: Stage) -> float | None:
        """See `Histogram.mean_ms`."""
        with self._lock:
            self._count()
            return self._stages[stage].mean_ms()

    def cumulative(self, stage: Stage, bounds_s: Sequence[float]) -> tuple[list[int], int, float]:
        """Counts at most each bound (seconds), the count of all, and their sum in seconds."""
        with self._lock:
            self._count()
            histogram = self._stages[stage]
            return histogram.at_most(bounds_s), histogram.count, histogram.sum_ns / NS_PER_S
