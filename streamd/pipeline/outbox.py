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

    One consumer. `wake` is called, by whoever posts, when the outbox was empty: it must not block.
    """

    def __init__(self, capacity: int, wake: Callable[[], None] = lambda: None) -> None:
        self._capacity = capacity
        self._wake = wake
        self._condition = threading.Condition()  # guards the queue, the counts and `_closed`
        self._queue: deque[Result | E] = deque()
        self._results = 0
        self._closed = False
        self.notes_lost = 0

    def wait_for_room(self) -> bool:
        """Block until a result can be posted; False when the outbox is closed. For the worker only."""
        with self._condition:
            self._condition.wait_for(lambda: self._results < self._capacity or self._closed)
            return not self._closed

    def post(self, result: Result) -> None:
        """Add a result; the caller has waited for room."""
        self._add(result)

    def note(self, note: E) -> None:
        """Add an event or a status; never blocks. When 1024 wait, nobody listens: the oldest note is lost."""
        self._add(note)

    def _add(self, item: Result | E) -> None:
        with self._condition:
            if self._closed and not isinstance(item, Result):
                return
            was_empty = not self._queue
            if isinstance(item, Result):
                self._results += 1
            elif len(self._queue) - self._results >= _NOTES_KEPT:
                self.notes_lost += 1
                self._queue.remove(next(note for note in self._queue if not isinstance(note, Result)))
            self._queue.append(item)
            self._condition.notify_all()
        if was_empty:
            self._wake()

    def take(self, timeout_s: float) -> list[Result | E] | None:
        """Everything that waits, oldest first; blocks at most `timeout_s`. None when closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._closed, timeout_s)
            if not self._queue and self._closed:
                return None
            items = list(self._queue)
            self._queue.clear()
            self._results = 0
            self._condition.notify_all()
            return items

    def close(self) -> None:
        """No more posts: the consumer gets what is there, then None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._wake()
