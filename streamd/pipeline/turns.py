"""Turns: what is worked on side by side comes out in the order in which it was begun."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Turns:
    """Numbers from 0, handed out by `next` and served in that order. Any thread may call everything.

    Each number that was handed out must be served, or all later ones would wait for it; who cannot calls `give_up`.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(
            threading.Lock()
        )  # guards all below; notified when a turn is over
        self._given = 0
        self._served = 0
        self._waiting = 0
        self._given_up = False

    def next(self) -> int:
        """The next number."""
        with self._condition:
            self._given += 1
            return self._given - 1

    def wait_until_left(self, most: int) -> None:
        """Block until at most so many of the numbers that were handed out are still to be served."""
        with self._condition:
            self._wait(lambda: self._given - self._served <= most)

    def wait(self, number: int) -> bool:
        """Block until all earlier numbers are served; False when somebody gave up. To be followed by `served`."""
        with self._condition:
            self._wait(lambda: self._served == number)
            return not self._given_up

    def served(self) -> None:
        """The turn is over."""
        with self._condition:
            self._served += 1
            if self._waiting:
                self._condition.notify_all()

    def give_up(self) -> None:
        """Nobody waits any more, now or later."""
        with self._condition:
            self._given_up = True
            self._condition.notify_all()

    def _wait(self, ready: Callable[[], bool]) -> None:
        if ready() or self._given_up:
            return
        self._waiting += 1
        try:
            self._condition.wait_for(lambda: ready() or self._given_up)
        finally:
            self._waiting -= 1
