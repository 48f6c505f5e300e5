"""Turns: what is worked on side by side comes out in the order in which it was begun, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class Turn(NamedTuple):
    """One piece of work: its number, counted from 0, and where it is done."""

    number: int
    place: int


class Turns:
    """Hands out places to work at, and delivers what was done there in the order of the turns. Any thread.

    Each turn that was begun must be left and finished, or all later ones are kept; who cannot calls `give_up`.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(
            threading.Lock()
        )  # guards all below; notified when a place is left, when a turn is delivered, and when somebody gives up
        self._begun = 0
        self._taken: set[int] = set()
        self._delivered = 0
        self._kept: dict[int, Callable[[bool], None]] = {}
        """What is finished and not delivered, by number."""
        self._delivering = False
        self._given_up = False

    def wait_for_place(self, places: int) -> None:
        """Block until one of so many places is free, and no more than twice as many turns are on their way.

        One thread at a time waits, and then begins.
        """
        with self._condition:
            self._wait_for(lambda: len(self._taken) < places and self._begun - self._delivered < 2 * places)

    def wait_until_delivered(self) -> None:
        """Block until everything that was begun is delivered."""
        with self._condition:
            self._wait_for(lambda: self._delivered == self._begun)

    def begin(self) -> Turn:
        """The next turn, at the first free place."""
        with self._condition:
            place = 0
            while place in self._taken:
                place += 1
            self._taken.add(place)
            self._begun += 1
            return Turn(self._begun - 1, place)

    def leave(self, turn: Turn) -> None:
        """Its place is free: another turn may begin there."""
        with self._condition:
            self._taken.discard(turn.place)
            self._condition.notify_all()

    def finish(self, turn: Turn, deliver: Callable[[bool], None]) -> None:
        """Have `deliver(True)` called when all earlier turns are delivered: now, or by who delivers those.

        One at a time. With False, out of order, once somebody has given up. Blocks as `deliver` does, also those of
        others; raises what it raises.
        """
        with self._condition:
            self._kept[turn.number] = deliver
            if self._delivering:
                return
            self._delivering = True
        while (due := self._due()) is not None:
            due(not self._given_up)
            with self._condition:
                self._delivered += 1
                self._condition.notify_all()

    def give_up(self) -> None:
        """Nobody waits any more, now or later; what is kept is delivered as lost."""
        with self._condition:
            self._given_up = True
            self._delivering = False  # by a thread that failed, it may be
            kept, self._kept = list(self._kept.values()), {}
            self._condition.notify_all()
        for deliver in kept:
            deliver(False)

    def _due(self) -> Callable[[bool], None] | None:
        """What is to be delivered next; None when it is not finished: then nobody delivers."""
        with self._condition:
            number = min(self._kept, default=None) if self._given_up else self._delivered
            due = self._kept.pop(number, None) if number is not None else None
            self._delivering = due is not None
            return due

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        self._condition.wait_for(lambda: ready() or self._given_up)
