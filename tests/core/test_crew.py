from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from streamd.core.crew import Crew
from streamd.core.timing import Deadline


def test_a_crash_stops_the_others_and_is_kept() -> None:
    with Crew() as crew:
        crew.start("patient", lambda: crew.stop.wait())
        crew.start("broken", lambda: 1 / 0)
        assert crew.stop.wait(5)
        assert crew.join("", Deadline(5))
    assert isinstance(crew.failure, ZeroDivisionError)
    assert crew.failed_thread == "broken"
    assert crew.running() == []


def test_the_first_crash_is_the_one_that_is_told_of() -> None:
    first_is_over = threading.Event()

    def second() -> None:
        first_is_over.wait(5)
        raise KeyError("second")

    with Crew() as crew:
        crew.start("second", second)
        crew.start("first", lambda: 1 / 0)
        assert crew.stop.wait(5)
        first_is_over.set()
        crew.join("", Deadline(5))
    assert crew.failed_thread == "first"


def test_threads_carry_their_names_and_a_name_is_taken_once() -> None:
    with Crew() as crew:
        crew.start("decode:gate", crew.stop.wait)
        assert "decode:gate" in [thread.name for thread in threading.enumerate()]
        with pytest.raises(ValueError, match="decode:gate"):
            crew.start("decode:gate", crew.stop.wait)
        assert crew.running("decode:") == ["decode:gate"]
        assert not crew.join("decode:", Deadline(0.01))
    assert crew.join("decode:", Deadline(5))


def test_leaving_the_block_asks_everything_to_stop() -> None:
    with Crew() as crew:
        crew.start("a", crew.stop.wait)
    assert crew.join("", Deadline(5))


def test_an_end_wakes_the_main_thread() -> None:
    with Crew() as crew:
        crew.start("short", lambda: None)
        crew.wait(5)
        assert crew.running() == []


@pytest.mark.long
def test_a_nudge_from_a_signal_handler_never_dead_locks() -> None:
    """Signals arrive between any two steps of the main thread, also while it holds a lock."""
    program = """if True:
        import signal, time
        from streamd.core.crew import Crew
        with Crew() as crew:
            signal.signal(signal.SIGALRM, lambda *_: crew.nudge())
            signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                crew.wait(0.00005)
            signal.setitimer(signal.ITIMER_REAL, 0)
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
