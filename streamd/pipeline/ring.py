"""Bounded rings between the decoders and the worker: one per stream, one lock for all.

Each side sleeps on a condition of its own, and is woken when it has something worth waking for: a wake-up costs more
than all else that is done for a small frame.
"""

from __future__ import annotations

import threading
from collections import deque

from streamd.pipeline.lane import Frame, Lane
from streamd.pipeline.ledger import Drop


class Ring:
    """The waiting frames of one stream. Made by `Rings.add`."""

    def __init__(self, lane: Lane, capacity: int, rings: Rings) -> None:
        self.lane = lane
        self._capacity = capacity
        self._rings = rings
        self._lock = rings._lock
        self._room = threading.Condition(self._lock)  # this ring's decoder waits for room
        self._frames: deque[Frame] = deque()
        self._closed = False
        self._refusal = Drop.SHUTDOWN

    def put_newest_wins(self, frame: Frame) -> None:
        """Add a frame; the oldest waiting one is dropped (`ring_full`) when there is no room. Never blocks."""
        oldest = None
        with self._lock:
            refused = self._closed
            if not refused:
                if len(self._frames) >= self._capacity:
                    oldest = self._frames.popleft()
                    self._rings._waiting -= 1
                self._add(frame)
        if refused:
            frame.drop(self._refusal)
        elif oldest is not None:
            oldest.drop(Drop.RING_FULL)

    def put_wait_for_room(self, frame: Frame) -> None:
        """Add a frame; blocks while the ring is full. Dropped (`shutdown`, `removed`) when the ring is closed."""
        with self._lock:
            if len(self._frames) >= self._capacity and not self._closed:
                # Once it sleeps it is woken when half of the ring is free, not for every single frame; or when the
                # worker would sleep.
                self._room.wait_for(lambda: self._closed or self._has_much_room())
            refused = self._closed
            if not refused:
                self._add(frame)
        if refused:
            frame.drop(self._refusal)

    def resize(self, capacity: int) -> None:
        """Hold so many from now on. What waits beyond that is taken, or makes way when the next one comes."""
        with self._lock:
            self._capacity = capacity
            self._room.notify_all()

    def _add(self, frame: Frame) -> None:
        self._frames.append(frame)
        rings = self._rings
        rings._waiting += 1
        if rings._waiting >= rings._wanted:
            rings._arrived.notify()

    def _has_much_room(self) -> bool:
        least = self._capacity - 1 if self._rings._idle else self._capacity // 2
        return len(self._frames) <= least

    def __len__(self) -> int:
        return len(self._frames)


class Rings:
    """All rings, and the worker's fair view of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards every ring and the fields below
        self._arrived = threading.Condition(self._lock)  # the worker waits for frames
        self._rings: list[Ring] = []
        self._waiting = 0
        """Frames in all rings."""
        self._wanted = 1
        """How many of them the worker waits for, when it waits."""
        self._idle = False
        """Whether it waits."""
        self._closed = False

    def add(self, lane: Lane, capacity: int) -> Ring:
        """A new ring, served from now on."""
        ring = Ring(lane, capacity, self)
        with self._lock:
            ring._closed = self._closed
            self._rings.append(ring)
        return ring

    def remove(self, ring: Ring, reason: Drop) -> None:
        """Close one ring and drop what waits in it; a decoder that still puts has its frames dropped."""
        with self._lock:
            ring._closed, ring._refusal = True, reason
            frames = list(ring._frames)
            ring._frames.clear()
            self._waiting -= len(frames)
            if ring in self._rings:
                self._rings.remove(ring)
            ring._room.notify_all()
        for frame in frames:
            frame.drop(reason)

    def close(self, *, drain: bool) -> None:
        """No frame is taken in any more. What waits is still handed out (`drain`), or dropped (`shutdown`)."""
        frames: list[Frame] = []
        with self._lock:
            self._closed = True
            for ring in self._rings:
                ring._closed = True
                if not drain:
                    frames.extend(ring._frames)
                    ring._frames.clear()
                ring._room.notify_all()
            self._waiting -= len(frames)
            self._arrived.notify_all()
        for frame in frames:
            frame.drop(Drop.SHUTDOWN)

    def take(self, limit: int, timeout_s: float, *, fill: int = 0) -> list[Frame] | None:
        """Up to `limit` frames, fairly over the streams; each stream's own order is kept.

        Blocks until there is a frame, at most `timeout_s`: [] then. None when closed and empty: the end.
        With `fill` it waits, however long, until `limit` frames are there or the rings are closed, so that the
        batches of an offline run do not depend on timing; and if it has to wait at all, until `fill` are there.
        """
        wanted = limit if fill else 1
        with self._lock:
            if self._waiting < wanted and not self._closed:
                self._wanted = max(wanted, fill)
                self._idle = True
                for ring in self._rings:
                    ring._room.notify()
                self._arrived.wait_for(
                    lambda: self._closed or self._waiting >= self._wanted, None if fill else timeout_s
                )
                self._idle = False
            if not self._waiting:
                return None if self._closed else []
            return self._pick(limit)

    def _pick(self, limit: int) -> list[Frame]:
        """Round robin, one frame a stream and turn; streams that may wait only get what the others leave."""
        picked: list[Frame] = []
        for urgent in (True, False):
            rings = [ring for ring in self._rings if ring._frames and ring.lane.urgent is urgent]
            while rings and len(picked) < limit:
                for ring in rings[: limit - len(picked)]:
                    picked.append(ring._frames.popleft())
                    # Whoever was served goes to the end, so that the next batch starts with the others.
                    self._rings.remove(ring)
                    self._rings.append(ring)
                    if ring._has_much_room():
                        ring._room.notify()
                rings = [ring for ring in rings if ring._frames]
            if picked and urgent:
                break
        self._waiting -= len(picked)
        return picked
