"""One run at a time on a GPU, and the moment at which the next batch is worth beginning."""

from __future__ import annotations

import threading
from collections.abc import Callable

from streamd.core.timing import now_ns


def _here(run: Callable[[], None]) -> None:
    run()


class Gate:
    """Between the threads that make batches ready and the GPU, which runs them one by one. Any thread.

    A batch is begun, made ready (put together, copied), run, and done with. Who would begin another one waits until
    it is due: so late that it is ready when the GPU has done with what runs. Its frames are then as new, and as
    many, as if it had been begun after that run.
    """

    def __init__(self, execute: Callable[[Callable[[], None]], None] = _here) -> None:
        """execute: has a run done, and returns or raises as that does."""
        self._execute = execute
        self._condition = (
            threading.Condition()
        )  # guards all below; notified when one of the next three changes
        self._begun: dict[int, int] = {}
        """The batches that do not run yet, by their place: when they were begun."""
        self._running = False
        self._open = False
        self._over_ns = 0
        """When the run that goes on will be over, if it takes as long as the last one of its size."""
        self._took_ns: dict[int, int] = {}
        self._lead_ns = 0
        """How long the last batch took to be ready."""

    def wait_until_due(self) -> None:
        """Block until another batch should be begun: at once when nothing runs and none is being made ready."""
        with self._condition:
            while (self._begun or self._running) and not self._open:
                left_ns = self._over_ns - self._lead_ns - now_ns()
                if not self._begun and left_ns <= 0:
                    return
                self._condition.wait(None if self._begun else left_ns / 1e9)

    def begin(self, place: int) -> None:
        """A batch is begun; `run` or `forget` must follow for this place, else no other is due ever."""
        with self._condition:
            self._begun[place] = now_ns()

    def run(self, place: int, rows: int, run: Callable[[], None]) -> None:
        """The batch is ready: have it run when no other does. Blocks, and raises what `run` raises."""
        with self._condition:
            if place in self._begun:
                self._lead_ns = now_ns() - self._begun[place]
            self._condition.wait_for(lambda: not self._running)
            self._begun.pop(place, None)
            self._running = True
            started_ns = now_ns()
            self._over_ns = started_ns + self._took_ns.get(rows, 0)
            self._condition.notify_all()
        try:
            self._execute(run)
        finally:
            with self._condition:
                self._took_ns[rows] = now_ns() - started_ns
                self._running = False
                self._condition.notify_all()

    def open(self) -> None:
        """No batch waits for another one's run any more: they do not come through here."""
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def forget(self, place: int) -> None:
        """A batch that was begun will not run, or has."""
        with self._condition:
            if self._begun.pop(place, None) is not None:
                self._condition.notify_all()
