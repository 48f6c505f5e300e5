"""What the worker and the streams have to say, waiting for the publisher (or an offline writer)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamd.core.timing import Stamps
from streamd.models.contract import Detections
from streamd.pipeline.lane import Frame

E = TypeVar("E")
_NOTES_KEPT = 1024


@dataclass(slots=True)
class Result:
    """What one frame came to. The frame's slot is given back already; `frame.picture` may still be there."""

    frame: Frame
    seq: int
    detections: Detections
    model: str
    labels: tuple[str, ...]
    provider: str

    @property
    def stamps(self) -> Stamps:
        return self.frame.stamps


class Outbox(Generic[E]):
    """Results, bounded, with back-pressure on the worker; and notes (events, status), newest 1024 kept.

    A batch is let in as a whole, so that there may be one less than a batch more than `capacity`.
    One consumer. `wake` is called, by whoever posts, when the outbox was empty: it must not block.
    """

    def __init__(self, capacity: int, wake: Callable[[], None] = lambda: None) -> None:
        self._capacity = capacity
        self._wake = wake
        self._lock = threading.Lock()  # guards the queue, the counts and `_closed`
        self._room = threading.Condition(self._lock)  # the worker waits for it
        self._arrived = threading.Condition(self._lock)  # the consumer waits for it
        self._queue: deque[Result | E] = deque()
        self._results = 0
        self._wanted = 1
        self._closed = False
        self.notes_lost = 0

    def wait_for_room(self) -> bool:
        """Block until a batch's results can be posted; False when the outbox is closed. For the worker only."""
        with self._lock:
            if self._results >= self._capacity and not self._closed:
                self._room.wait_for(lambda: self._results < self._capacity or self._closed)
            return not self._closed

    def has_room(self) -> bool:
        """Whether `wait_for_room` would return at once."""
        return self._results < self._capacity or self._closed

    def post(self, *results: Result) -> None:
        """Add the results of a batch; the caller has waited for room. One wake-up for all of them."""
        if not results:
            return
        with self._lock:
            self._results += len(results)
            was_empty = self._add(*results)
        if was_empty:
            self._wake()

    def note(self, note: E) -> None:
        """Add an event or a status; never blocks. When 1024 wait, nobody listens: the oldest note is lost."""
        with self._lock:
            if self._closed:
                return
            if len(self._queue) - self._results >= _NOTES_KEPT:
                self.notes_lost += 1
                self._queue.remove(next(note for note in self._queue if not isinstance(note, Result)))
            was_empty = self._add(note)
        if was_empty:
            self._wake()

    def _add(self, *items: Result | E) -> bool:
        """Whether nothing else waits."""
        self._queue.extend(items)
        if len(self._queue) >= self._wanted:
            self._arrived.notify()
        return len(self._queue) == len(items)

    def take(self, timeout_s: float, at_least: int = 1) -> list[Result | E] | None:
        """Everything that waits, oldest first; None when closed and empty.

        Blocks at most `timeout_s`, until something is there, or, if there was nothing, `at_least` so many.
        """
        with self._lock:
            if not self._queue and not self._closed and timeout_s:
                self._wanted = at_least
                self._arrived.wait_for(lambda: len(self._queue) >= self._wanted or self._closed, timeout_s)
            if not self._queue:
                return None if self._closed else []
            items = list(self._queue)
            self._queue.clear()
            if self._results >= self._capacity:
                self._room.notify()
            self._results = 0
            return items

    def close(self) -> None:
        """No more posts: the consumer gets what is there, then None."""
        with self._lock:
            self._closed = True
            self._room.notify_all()
            self._arrived.notify_all()
        self._wake()
