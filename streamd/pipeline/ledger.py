"""The account of one stream's frames: every decoded frame ends by exactly one entry."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum


class Drop(StrEnum):
    """Why a decoded frame was not published (a closed list)."""

    RING_FULL = "ring_full"
    STALE = "stale"
    RATE_LIMIT = "rate_limit"
    CORRUPT = "corrupt"
    MODEL_CHANGED = "model_changed"
    REMOVED = "removed"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Counts:
    """One consistent reading of a ledger: decoded = published + sum(dropped) + in_flight."""

    decoded: int
    published: int
    dropped: dict[Drop, int]
    in_flight: int


class Ledger:
    """Counts one stream's frames since it was added. Any thread may call it; no call blocks for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all counters: a snapshot is one moment
        self._decoded = 0
        self._published = 0
        self._in_flight = 0
        self._dropped = dict.fromkeys(Drop, 0)

    def decoded(self) -> int:
        """A frame was decoded and is in flight from now on; returns its number, counted from 0."""
        with self._lock:
            number = self._decoded
            self._decoded += 1
            self._in_flight += 1
            return number

    def published(self) -> int:
        """A frame's result is posted; returns the result's `seq`, counted from 0."""
        with self._lock:
            seq = self._published
            self._published += 1
            self._in_flight -= 1
            return seq

    def dropped(self, reason: Drop) -> None:
        """A frame ended without a result."""
        with self._lock:
            self._dropped[reason] += 1
            self._in_flight -= 1

    def snapshot(self) -> Counts:
        """All counters of one moment."""
        with self._lock:
            return Counts(self._decoded, self._published, dict(self._dropped), self._in_flight)
