"""Bounded rings between the decoders and the worker: one per stream, one condition for all."""

from __future__ import annotations

import threading
from collections import deque

from streamd.pipeline.lane import Frame, Lane
from streamd.pipeline.ledger import Drop


class Ring:
    """The waiting frames of one stream. Made by `Rings.add`; its condition is shared with all others."""

    def __init__(self, lane: Lane, capacity: int, condition: threading.Condition) -> None:
        self.lane = lane
        self._capacity = capacity
        self._condition = condition
        self._frames: deque[Frame] = deque()
        self._closed = False
        self._refusal = Drop.SHUTDOWN

    def put_newest_wins(self, frame: Frame) -> None:
        """Add a frame; the oldest waiting one is dropped (`ring_full`) when there is no room. Never blocks."""
        oldest = None
        with self._condition:
            if self._closed:
                refused = True
            else:
                refused = False
                if len(self._frames) >= self._capacity:
                    oldest = self._frames.popleft()
                self._frames.append(frame)
                self._condition.notify_all()
        if refused:
            frame.drop(self._refusal)
        elif oldest is not None:
            oldest.drop(Drop.RING_FULL)

    def put_wait_for_room(self, frame: Frame) -> None:
        """Add a frame; blocks while the ring is full. Dropped (`shutdown`, `removed`) when the ring is closed."""
        with self._condition:
            while len(self._frames) >= self._capacity and not self._closed:
                self._condition.wait()
            closed = self._closed
            if not closed:
                self._frames.append(frame)
                self._condition.notify_all()
        if closed:
            frame.drop(self._refusal)

    def resize(self, capacity: int) -> None:
        """Hold so many from now on. What waits beyond that is taken, or makes way when the next one comes."""
        with self._condition:
            self._capacity = capacity
            self._condition.notify_all()

    def __len__(self) -> int:
        return len(self._frames)


class Rings:
    """All rings, and the worker's fair view of them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # guards every ring and the two fields below
        self._rings: list[Ring] = []
        self._closed = False

    def add(self, lane: Lane, capacity: int) -> Ring:
        """A new ring, served from now on."""
        ring = Ring(lane, capacity, self._condition)
        with self._condition:
            ring._closed = self._closed
            self._rings.append(ring)
        return ring

    def remove(self, ring: Ring, reason: Drop) -> None:
        """Close one ring and drop what waits in it; a decoder that still puts has its frames dropped."""
        with self._condition:
            ring._closed, ring._refusal = True, reason
            frames = list(ring._frames)
            ring._frames.clear()
            if ring in self._rings:
                self._rings.remove(ring)
            self._condition.notify_all()
        for frame in frames:
            frame.drop(reason)

    def close(self, *, drain: bool) -> None:
        """No frame is taken in any more. What waits is still handed out (`drain`), or dropped (`shutdown`)."""
        frames: list[Frame] = []
        with self._condition:
            self._closed = True
            for ring in self._rings:
                ring._closed = True
                if not drain:
                    frames.extend(ring._frames)
                    ring._frames.clear()
            self._condition.notify_all()
        for frame in frames:
            frame.drop(Drop.SHUTDOWN)

    def take(self, limit: int, timeout_s: float, *, fill: bool = False) -> list[Frame] | None:
        """Up to `limit` frames, fairly over the streams; each stream's own order is kept.

        Blocks until there is a frame, at most `timeout_s`: [] then. None when closed and empty: the end.
        With `fill` it waits, however long, until `limit` frames are there or the rings are closed, so that the
        batches of an offline run do not depend on timing.
        """
        wanted = limit if fill else 1
        with self._condition:
            ready = self._condition.wait_for(
                lambda: self._closed or self._waiting() >= wanted, None if fill else timeout_s
            )
            frames = self._pick(limit) if ready else []
            if frames:
                self._condition.notify_all()
            elif self._closed:
                return None
            return frames

    def _waiting(self) -> int:
        return sum(len(ring._frames) for ring in self._rings)

    def _pick(self, limit: int) -> list[Frame]:
        """Round robin, one frame a stream and turn; streams that may wait only get what the others leave."""
        picked: list[Frame] = []
        for urgent in (True, False):
            rings = [ring for ring in self._rings if ring.lane.urgent is urgent and ring._frames]
            while rings and len(picked) < limit:
                for ring in rings[: limit - len(picked)]:
                    picked.append(ring._frames.popleft())
                    # Whoever was served goes to the end, so that the next batch starts with the others.
                    self._rings.remove(ring)
                    self._rings.append(ring)
                rings = [ring for ring in rings if ring._frames]
            if picked and urgent:
                break
        return picked
