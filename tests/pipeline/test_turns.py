"""Turns: places, order, and what becomes of them when somebody fails."""

from __future__ import annotations

import random
import threading
import time
from functools import partial

import pytest

from streamd.pipeline.turns import Turn, Turns

_WAIT_S = 20.0


def test_places_are_those_that_are_free_and_none_is_given_out_twice() -> None:
    turns = Turns()
    first, second, third = (turns.begin() for _ in range(3))
    assert [first, second, third] == [Turn(0, 0), Turn(1, 1), Turn(2, 2)]
    turns.leave(second)
    assert turns.begin() == Turn(3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_everything_is_delivered_once_and_in_order_by_one_thread_at_a_time(threads: int) -> None:
    turns, taking, rng = Turns(), threading.Lock(), random.Random(threads)
    delivered: list[int] = []
    delivering = threading.Lock()
    pauses = [rng.random() / 500 for _ in range(400)]

    def deliver(number: int, in_order: bool) -> None:
        assert in_order
        assert delivering.acquire(blocking=False)
        delivered.append(number)
        delivering.release()

    def work() -> None:
        while True:
            with taking:
                turns.wait_for_place(threads)
                turn = turns.begin()
            if turn.number < len(pauses):
                time.sleep(pauses[turn.number])
            turns.leave(turn)
            turns.finish(turn, partial(deliver, turn.number))
            if turn.number >= len(pauses):
                return

    bodies = [threading.Thread(target=work) for _ in range(threads)]
    for body in bodies:
        body.start()
    for body in bodies:
        body.join(_WAIT_S)
    turns.wait_until_delivered()
    assert delivered == list(range(len(pauses) + threads))


def test_who_finishes_early_goes_on_and_the_last_one_delivers_for_all() -> None:
    turns = Turns()
    found: list[tuple[int, str]] = []
    begun = [turns.begin() for _ in range(4)]

    def deliver(number: int, _: bool) -> None:
        found.append((number, threading.current_thread().name))

    for turn in (begun[2], begun[1], begun[3]):
        turns.leave(turn)
        turns.finish(turn, partial(deliver, turn.number))
        assert not found
    last = threading.Thread(target=lambda: turns.finish(begun[0], partial(deliver, 0)), name="last")
    last.start()
    last.join(_WAIT_S)
    assert found == [(number, "last") for number in range(4)]


def test_after_somebody_gave_up_all_is_delivered_as_lost_and_nobody_waits() -> None:
    turns = Turns()
    lost: list[tuple[int, bool]] = []
    begun = [turns.begin() for _ in range(4)]
    turns.finish(begun[2], lambda in_order: lost.append((2, in_order)))
    waiting = threading.Thread(target=turns.wait_until_delivered)
    waiting.start()
    turns.give_up()
    waiting.join(_WAIT_S)
    assert not waiting.is_alive()
    turns.finish(begun[3], lambda in_order: lost.append((3, in_order)))
    turns.wait_for_place(1)
    assert lost == [(2, False), (3, False)]


def test_who_fails_while_delivering_leaves_the_rest_to_be_lost() -> None:
    turns = Turns()
    lost: list[bool] = []
    first, second, third = (turns.begin() for _ in range(3))
    turns.finish(second, lost.append)

    def fail(_: bool) -> None:
        raise OSError("the device is gone")

    with pytest.raises(OSError, match="gone"):
        turns.finish(first, fail)
    turns.give_up()
    turns.finish(third, lost.append)
    assert lost == [False, False]
