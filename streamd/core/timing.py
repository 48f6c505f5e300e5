"""Clocks, deadlines and the stages of a frame.

Durations and ages are monotonic nanoseconds; wall time is whole microseconds since 1970 and only published.
Clients import this too, so it needs the standard library alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


now_ns = time.monotonic_ns
"""Monotonic time in nanoseconds."""


def wall_us() -> int:
    """Wall time in microseconds since 1970."""
    return time.time_ns() // 1000


class Deadline:
    """One time budget shared by several waits."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._end - time.monotonic())


class Rhythm:
    """At most so many a second, as evenly as they come. Moments are nanoseconds of any one clock.

    A clock that goes back by two intervals began anew, and so does the rhythm. One thread advances it, any may ask.
    """

    def __init__(self, per_s: float) -> None:
        self._interval_ns = int(NS_PER_S / per_s)
        self._due_ns: int | None = None

    def due(self, at_ns: int) -> bool:
        """Whether what comes at this moment is the next one."""
        # A tenth of an interval of slack: a 30 fps camera that jitters still gives 15 of 15, not 14.
        due_ns = self._due_ns
        if due_ns is None or at_ns >= due_ns - self._interval_ns // 10:
            return True
        return at_ns < due_ns - 2 * self._interval_ns

    def advance(self, at_ns: int) -> None:
        """What came at this moment was it."""
        due_ns = self._due_ns
        on_time = due_ns is not None and abs(at_ns - due_ns) <= self._interval_ns
        self._due_ns = (due_ns if on_time and due_ns is not None else at_ns) + self._interval_ns


class Stage(StrEnum):
    """Where a frame's time goes, in the order of its life."""

    DECODE = "decode"
    PREPROCESS = "preprocess"
    QUEUE = "queue"
    INFER = "infer"
    POSTPROCESS = "postprocess"
    PUBLISH = "publish"
    TOTAL = "total"


@dataclass(slots=True)
class Stamps:
    """Monotonic nanoseconds at which a frame passed each point; 0 is "not yet"."""

    received: int = 0
    decoded: int = 0
    prepared: int = 0
    run: int = 0
    inferred: int = 0
    posted: int = 0
    encoded: int = 0

    def stages_ns(self) -> tuple[int, ...]:
        """Each stage's duration, in the order of `Stage`.

        `infer` and `postprocess` are the batch's time, `queue` ends when the batch runs, `publish` is the wait in the
        outbox.
        """
        return (
            self.decoded - self.received,
            self.prepared - self.decoded,
            self.run - self.prepared,
            self.inferred - self.run,
            self.posted - self.inferred,
            self.encoded - self.posted,
            self.encoded - self.received,
        )
