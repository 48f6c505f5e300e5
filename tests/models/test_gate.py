"""One run at a time, and the next batch begun so late that it is ready when the GPU has done."""

from __future__ import annotations

import threading
import time

import pytest

from streamd.models.gate import Gate

_WAIT_S = 20.0


class Waiter:
    """A thread that waits until the next batch is due."""

    def __init__(self, gate: Gate) -> None:
        self.thread = threading.Thread(target=gate.wait_until_due, daemon=True)
        self.thread.start()

    def is_through(self, within_s: float) -> bool:
        self.thread.join(within_s)
        return not self.thread.is_alive()


class Run:
    """A run that goes on until it is let go."""

    def __init__(self, gate: Gate, place: int = 0, rows: int = 1) -> None:
        self.entered, self.end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=gate.run, args=(place, rows, self._body), daemon=True)
        self._thread.start()

    def _body(self) -> None:
        self.entered.set()
        assert self.end.wait(_WAIT_S)

    def finish(self) -> None:
        self.end.set()
        self._thread.join(_WAIT_S)
        assert not self._thread.is_alive()


def taking(gate: Gate, seconds: float) -> None:
    """Have the gate expect that a run of one row takes so long."""
    gate.run(0, 1, lambda: None)
    gate._took_ns[1] = int(seconds * 1e9)


def test_runs_wait_for_each_other_and_nothing_is_due_sooner_than_at_once() -> None:
    gate = Gate()
    assert Waiter(gate).is_through(_WAIT_S)
    first = Run(gate)
    assert first.entered.wait(_WAIT_S)
    second = Run(gate, 1)
    assert not second.entered.wait(0.1)
    first.finish()
    assert second.entered.wait(_WAIT_S)
    second.finish()
    assert Waiter(gate).is_through(_WAIT_S)


def test_the_next_batch_is_due_when_the_run_is_over() -> None:
    gate = Gate()
    taking(gate, 30.0)
    run = Run(gate)
    assert run.entered.wait(_WAIT_S)
    waiter = Waiter(gate)
    assert not waiter.is_through(0.2)
    run.finish()
    assert waiter.is_through(_WAIT_S), "before the 30 s that were expected"


def test_it_is_due_before_the_end_by_the_time_that_it_takes_to_be_ready() -> None:
    """The run is expected to take 30 s, and the last batch took more than that to be ready: so at once."""
    gate = Gate()
    gate._lead_ns = 40_000_000_000
    taking(gate, 30.0)
    run = Run(gate)
    assert run.entered.wait(_WAIT_S)
    assert Waiter(gate).is_through(_WAIT_S)
    run.finish()


def test_what_it_expects_is_what_the_last_batch_took_from_begin_to_run_to_end() -> None:
    gate = Gate()
    gate.begin(0)
    time.sleep(0.05)
    gate.run(0, 4, lambda: time.sleep(0.2))
    assert gate._lead_ns >= 0.05e9
    assert gate._took_ns[4] >= 0.2e9
    gate.begin(0)
    gate.run(0, 4, lambda: None)
    assert gate._lead_ns < 0.05e9
    assert gate._took_ns[4] < 0.2e9


@pytest.mark.parametrize("rows", [1, 8])
def test_a_run_longer_than_expected_holds_up_nobody_who_makes_ready(rows: int) -> None:
    """An unknown size is expected to take no time at all."""
    gate = Gate()
    taking(gate, 0.0)
    run = Run(gate, rows=rows)
    assert run.entered.wait(_WAIT_S)
    assert Waiter(gate).is_through(_WAIT_S)
    run.finish()


def test_no_third_batch_is_begun_while_one_is_made_ready() -> None:
    """Also when nothing runs: the one that is made ready comes first, and the third would wait all of its run."""
    gate = Gate()
    taking(gate, 30.0)
    gate.begin(1)
    waiter = Waiter(gate)
    assert not waiter.is_through(0.1)
    run = Run(gate, 1)
    assert run.entered.wait(_WAIT_S)
    assert not waiter.is_through(0.1), "it runs now, and will for a while"
    run.finish()
    assert waiter.is_through(_WAIT_S)


def test_a_batch_that_never_ran_is_waited_for_by_nobody() -> None:
    gate = Gate()
    gate.begin(0)
    waiter = Waiter(gate)
    assert not waiter.is_through(0.05)
    gate.forget(0)
    gate.forget(0)
    assert waiter.is_through(_WAIT_S)


def test_a_run_that_fails_frees_the_gate() -> None:
    gate = Gate()

    def fail() -> None:
        raise ValueError("the device is gone")

    gate.begin(0)
    with pytest.raises(ValueError, match="gone"):
        gate.run(0, 1, fail)
    assert Waiter(gate).is_through(_WAIT_S)
    gate.run(0, 1, lambda: None)
