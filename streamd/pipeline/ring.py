"""Bounded rings between the decoders and the worker: one per stream, one lock for all, held for moments.

Each side sleeps until it has something worth waking for: a wake-up costs more than all else that is done for a small
frame. No step depends on how many streams there are.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from streamd.pipeline.lane import Frame, Lane
from streamd.pipeline.ledger import Drop
from streamd.pipeline.shifts import Shifts
from streamd.pipeline.turnstile import Turnstiles

GATHER_S = 0.005
"""So long frames may wait for others that share their batch, if the worker would sleep otherwise."""
PATIENCE_S = 0.2
"""So long at most those of files that are played as fast as they are read."""
_LATELY_S = 0.1


class Ring:
    """The waiting frames of one stream. Made by `Rings.add`."""

    def __init__(self, lane: Lane, capacity: int, rings: Rings) -> None:
        self.lane = lane
        self._capacity = capacity
        self._rings = rings
        self._lock = rings._lock
        self._room = threading.Condition(self._lock)  # this ring's decoder waits for room
        self._frames: deque[Frame] = deque()
        self._listed = False
        """Whether it is in one of the worker's two queues."""
        self._closed = False
        self._refusal = Drop.SHUTDOWN
        self.turnstile = rings._turnstiles.next()
        """What its decoder passes before it prepares a picture."""

    def put_newest_wins(self, frame: Frame) -> None:
        """Add a frame; the oldest waiting one is dropped (`ring_full`) when there is no room. Never blocks."""
        oldest, wakes = None, False
        with self._lock:
            refused = self._closed
            if not refused:
                if len(self._frames) >= self._capacity:
                    oldest = self._frames.popleft()
                    self._rings._waiting -= 1
                wakes = self._add(frame)
        if wakes:
            self._rings._wake()
        if refused:
            frame.drop(self._refusal)
        elif oldest is not None:
            oldest.drop(Drop.RING_FULL)

    def put_wait_for_room(self, frame: Frame) -> None:
        """Add a frame; blocks while the ring is full. Dropped (`shutdown`, `removed`) when the ring is closed."""
        rings = self._rings
        with self._lock:
            full = self.is_full()
            wakes = rings._rouse() if full else self._add_unless_closed(frame)
            refused = self._closed
        if full:
            if wakes:
                rings._wake()  # a worker that waits for more would wait for ever
            with self._lock:
                self._wait_for_room()
                wakes = self._add_unless_closed(frame)
                refused = self._closed
        if wakes:
            rings._wake()
        if refused:
            frame.drop(self._refusal)

    def resize(self, capacity: int) -> None:
        """Hold so many from now on. What waits beyond that is taken, or makes way when the next one comes."""
        with self._lock:
            self._capacity = capacity
            self._room.notify_all()

    def _add(self, frame: Frame) -> bool:
        """Whether the worker is to be woken, which needs no lock."""
        self._frames.append(frame)
        rings = self._rings
        rings._waiting += 1
        rings._rate.count += 1
        if not self._listed:
            rings._list(self)
        enough = rings._are_enough()
        if not self.lane.urgent:
            rings._patient_lately = True
        return enough and rings._rouse()

    def _wait_for_room(self) -> None:
        if self.is_full():
            # Once it sleeps it is woken when half of the ring is free, not for every single frame; or when the worker
            # would sleep.
            full = self._rings._full
            full.append(self)
            self._room.wait_for(lambda: self._closed or self._has_much_room())
            full.remove(self)

    def _add_unless_closed(self, frame: Frame) -> bool:
        return not self._closed and self._add(frame)

    def is_full(self) -> bool:
        """Whether `put_wait_for_room` would block. For its decoder, needs no lock."""
        return len(self._frames) >= self._capacity and not self._closed

    def _has_much_room(self) -> bool:
        least = self._capacity - 1 if self._rings._idle else self._capacity // 2
        return len(self._frames) <= least

    def __len__(self) -> int:
        return len(self._frames)


class _Rate:
    """How many frames a second came lately. Guarded by the lock of the rings."""

    def __init__(self) -> None:
        self.count = 0
        """Since the last look."""
        self._looked_s = time.monotonic()
        self._per_s = 0.0

    def per_s(self) -> float:
        passed_s = time.monotonic() - self._looked_s
        if passed_s >= _LATELY_S:
            self._per_s = self.count / passed_s
            self._looked_s += passed_s
            self.count = 0
        return self._per_s


class Rings:
    """All rings, and the worker's fair view of them. One thread at a time may `take`."""

    def __init__(self) -> None:
        self.shifts = Shifts()  # for decoders of files that are read as fast as they go
        self._lock = threading.Lock()  # guards every ring and the fields below, but the tokens
        self._rings: set[Ring] = set()
        self._turnstiles = Turnstiles()
        self._urgent: deque[Ring] = deque()
        """Rings with frames, whoever was served longest ago first."""
        self._patient: deque[Ring] = deque()
        """Those that get what the others leave."""
        self._full: list[Ring] = []
        """Rings whose decoder waits for room."""
        self._waiting = 0
        """Frames in all rings."""
        self._wanted = 1
        """How many of them the worker waits for, when it waits."""
        self._idle = False
        """Whether it waits: whoever ends that owes it a token."""
        self._batch = 1
        """How many it takes at a time."""
        self._patient_lately = False
        """Whether frames came that wait for others to share a batch with, as long as need be."""
        self._rate = _Rate()
        self._closed = False
        self._missed = False
        """Whether it would go on, its time being over, but for somebody who serves in its place."""
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._serve: Callable[[], bool] | None = None

    def lend(self, serve: Callable[[], bool]) -> None:
        """Whoever would wake the worker calls `serve` instead: in its own thread, one thread at a time.

        It takes frames with `take_waiting`, until `wait_again` is true or it has done enough: then it returns False,
        and the worker is woken after all.
        """
        self._serve = serve

    def take_waiting(self, limit: int) -> list[Frame]:
        """What `take` would give, without waiting; for whoever serves in the worker's place."""
        with self._lock:
            return self._picked(limit) or []

    def wait_again(self) -> bool:
        """Let the worker sleep on, until somebody else has frames enough for it; False when it is to be woken."""
        with self._lock:
            if self._closed or self._missed or self._are_enough():
                return False
            self._await(self._wanted)
            return True

    def add(self, lane: Lane, capacity: int) -> Ring:
        """A new ring, served from now on."""
        ring = Ring(lane, capacity, self)
        with self._lock:
            ring._closed = self._closed
            self._rings.add(ring)
        return ring

    def remove(self, ring: Ring, reason: Drop) -> None:
        """Close one ring and drop what waits in it; a decoder that still puts has its frames dropped."""
        with self._lock:
            ring._closed, ring._refusal = True, reason
            frames = self._emptied(ring)
            self._rings.discard(ring)
        for frame in frames:
            frame.drop(reason)

    def close(self, *, drain: bool) -> None:
        """No frame is taken in any more. What waits is still handed out (`drain`), or dropped (`shutdown`)."""
        frames: list[Frame] = []
        with self._lock:
            self._closed = True
            for ring in self._rings:
                ring._closed = True
                ring._room.notify_all()
                if not drain:
                    frames += self._emptied(ring)
            wakes = self._rouse()
        if wakes:
            self._tokens.put(None)
        for frame in frames:
            frame.drop(Drop.SHUTDOWN)

    def take(self, limit: int, timeout_s: float, *, fill: int = 0) -> list[Frame] | None:
        """Up to `limit` frames, fairly over the streams; each stream's own order is kept.

        Blocks until there is a frame, at most `timeout_s`: [] then. None when closed and empty: the end.
        Where frames come so often that several would within `GATHER_S`, it waits that long for them, not for each.
        With `fill` it waits, however long, until `limit` frames are there or the rings are closed, so that the
        batches of an offline run do not depend on timing; and if it has to wait at all, until `fill` are there.
        """
        with self._lock:
            if self._waiting >= (limit if fill else 1) or self._closed:
                return self._picked(limit)
            several = 1 if fill else min(limit, int(self._rate.per_s() * GATHER_S))
            self._batch = limit
            self._await(max(limit, fill) if fill else max(several, 1))
            patient = self._patient_lately
        if several > 1:
            told = self._told(GATHER_S)
            with self._lock:
                if told or self._waiting or self._closed:
                    return self._picked(limit)
                self._await(1)
        self._told(None if fill else min(timeout_s, PATIENCE_S) if patient else timeout_s)
        with self._lock:
            self._patient_lately = bool(self._waiting)
            return self._picked(limit)

    def _await(self, wanted: int) -> None:
        """From now on whoever brings the frames up to `wanted` owes a token."""
        self._wanted = wanted
        self._idle = True
        for ring in self._full:
            if ring._has_much_room():
                ring._room.notify()

    def _are_enough(self) -> bool:
        """Whether so many wait that the worker is to be woken."""
        wanted = self._wanted
        # A patient frame after a while without any is not kept waiting: perhaps no other follows.
        if self._patient_lately and not self._urgent and all(ring._has_much_room() for ring in self._full):
            wanted = max(wanted, self._batch)
        return self._waiting >= wanted

    def _told(self, timeout_s: float | None) -> bool:
        """Block until the token comes; False when it did not in time, and none is owed any more."""
        try:
            self._tokens.get(timeout=timeout_s)
        except queue.Empty:
            with self._lock:
                self._missed, self._idle = not self._idle, False
            if not self._missed:
                return False
            self._tokens.get()
            self._missed = False
        return True

    def _wake(self) -> None:
        """Have served what waits, by the worker or in its place; for whoever owes it the token."""
        if self._serve is None or not self._serve():
            self._tokens.put(None)

    def _rouse(self) -> bool:
        """Whether the caller owes the worker a token, to be put when the lock is free again."""
        owed, self._idle = self._idle, False
        return owed

    def _list(self, ring: Ring) -> None:
        ring._listed = True
        (self._urgent if ring.lane.urgent else self._patient).append(ring)

    def _emptied(self, ring: Ring) -> list[Frame]:
        frames = list(ring._frames)
        ring._frames.clear()
        self._waiting -= len(frames)
        ring._room.notify_all()
        return frames

    def _picked(self, limit: int) -> list[Frame] | None:
        """Round robin, one frame a stream and turn; streams that may wait only get what the others leave."""
        if not self._waiting:
            return None if self._closed else []
        picked: list[Frame] = []
        for rings in (self._urgent, self._patient):
            while rings and len(picked) < limit:
                ring = rings.popleft()
                ring._listed = False
                if ring._frames:  # else it was emptied in the meantime
                    picked.append(ring._frames.popleft())
                    self._waiting -= 1
                    if ring in self._full and ring._has_much_room():
                        ring._room.notify()
                if ring._frames:
                    self._list(ring)
            if picked:
                break
        return picked
