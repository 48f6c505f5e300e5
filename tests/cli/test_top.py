"""`streamd top` on a real terminal and without one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamd.bus.replay import Pace
from streamd.cli.terminal import Keys
from tests.support.command import fails, run, run_inline, start
from tests.support.playing import Bench, running, session

pytestmark = pytest.mark.slow

LEFT = "\x1b[?1049l"  # the alternate screen is left
SHOWN = "\x1b[?25h"  # the cursor is shown


class Terminal:
    """A command on a pseudo terminal of its own, which is its controlling one."""

    def __init__(self, *arguments: str, columns: int = 120) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns)
        self.before = termios.tcgetattr(self.theirs)
        self.text = ""
        self._gone = False
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamd", *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.ours, 65536)
            except OSError:
                return
            if not part:
                return
            with self._changed:
                self.text += part.decode(errors="replace")
                self._changed.notify_all()

    def wait(self, *words: str, since: int = 0) -> bool:
        """Until all of these have been written after the place `since`."""
        with self._changed:
            return self._changed.wait_for(lambda: all(word in self.text[since:] for word in words), 60)

    def press(self, key: str) -> None:
        os.write(self.ours, key.encode())

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def mode(self) -> Any:
        return termios.tcgetattr(self.theirs)

    def hang_up(self) -> None:
        """The connection is lost: whoever reads or writes it gets an error, and its session a SIGHUP."""
        self._gone = True
        termios.tcflow(self.theirs, termios.TCOON)
        os.close(self.theirs)
        os.close(self.ours)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        if not self._gone:
            os.close(self.theirs)
        self._reader.join(10)
        if not self._gone:
            os.close(self.ours)


@contextmanager
def terminal(*arguments: str, columns: int = 120) -> Iterator[Terminal]:
    shown = Terminal(*arguments, columns=columns)
    try:
        yield shown
    finally:
        shown.close()


@pytest.fixture(scope="module")
def bus() -> Iterator[Bench]:
    """A session that goes on for ever."""
    with running(session(), Pace(loop=True)) as bench:
        yield bench


def test_keys_sort_and_quit_and_it_follows_the_width(bus: Bench) -> None:
    with terminal("top", bus.endpoint) as shown:
        assert shown.wait("gate", "1 of 1 streams live", "now by trouble"), shown.text
        assert not shown.mode()[3] & termios.ICANON
        shown.press("s")
        assert shown.wait("now by name")
        shown.press("ss")
        assert shown.wait("now by age")
        assert "drop/s" in shown.text
        shown.resize(30)
        time.sleep(1.2)  # two pictures later none of the old width is under way
        place = len(shown.text)
        assert shown.wait("gate", "stream", since=place)
        assert "drop/s" not in shown.text[place:]
        shown.press("q")
        assert shown.process.wait(30) == 0
        assert shown.wait(LEFT, SHOWN)
        assert shown.mode() == shown.before
        assert "Traceback" not in shown.text


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(bus: Bench, number: int) -> None:
    with terminal("top", bus.endpoint) as shown:
        assert shown.wait("gate", "now by trouble")
        if number == signal.SIGINT:
            shown.press("\x03")
        else:
            shown.process.send_signal(number)
        assert shown.process.wait(30) == 0
        assert shown.wait(LEFT, SHOWN)
        assert shown.mode() == shown.before


@pytest.mark.long
def test_a_terminal_that_takes_nothing_is_left_at_the_second_signal(bus: Bench) -> None:
    with terminal("top", bus.endpoint) as shown:
        assert shown.wait("gate", "now by trouble")
        termios.tcflow(shown.theirs, termios.TCOOFF)  # Ctrl-S
        time.sleep(1.5)  # by now it is inside a write
        shown.process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            shown.process.wait(1)
        shown.process.terminate()
        assert shown.process.wait(30) == 130
        assert shown.mode() == shown.before


@pytest.mark.long
def test_a_terminal_that_has_gone_ends_it(bus: Bench) -> None:
    with terminal("top", bus.endpoint) as shown:
        assert shown.wait("gate", "now by trouble")
        shown.hang_up()
        assert shown.process.wait(30) in (0, 1, 120)


def test_it_is_suspended_and_goes_on(bus: Bench) -> None:
    with terminal("top", bus.endpoint) as shown:
        assert shown.wait("now by trouble")
        shown.process.send_signal(signal.SIGTSTP)
        assert shown.wait(LEFT, SHOWN)
        found, status = os.waitpid(shown.process.pid, os.WUNTRACED)
        assert found
        assert os.WIFSTOPPED(status)
        assert shown.mode() == shown.before
        place = len(shown.text)
        shown.process.send_signal(signal.SIGCONT)
        assert shown.wait("now by trouble", since=place)
        assert not shown.mode()[3] & termios.ICANON
        shown.press("q")
        assert shown.process.wait(30) == 0
        assert shown.mode() == shown.before


@pytest.mark.long
def test_a_daemon_that_goes_and_comes_back_is_told_of() -> None:
    with running(session(), Pace(loop=True)) as first, terminal("top", first.endpoint) as shown:
        assert shown.wait("1 of 1 streams live")
        first.stop.set()
        first.thread.join(10)
        assert shown.wait("nothing heard for")
        again = session().replace(b'"run":"r1"', b'"run":"r2"')
        with running(again, Pace(loop=True), first.endpoint):
            assert shown.wait("run r2", "the daemon was started again (1 times")
            shown.press("q")
            assert shown.process.wait(30) == 0


@pytest.mark.long
def test_nothing_listens_and_a_time_out_ends_it_in_order() -> None:
    with terminal("top", "tcp://127.0.0.1:1", "--timeout", "2") as shown:
        assert shown.wait("nothing heard so far")
        assert shown.process.wait(30) == 1
        assert shown.wait("no message within 2 s; is a daemon running")
        assert shown.text.index(LEFT) < shown.text.index("no message within")
        assert shown.mode() == shown.before


def test_keys_restore_the_terminal_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0), os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(theirs)
        keys = Keys()
        with pytest.raises(ZeroDivisionError):
            _crash_after_a_key(keys, ours, theirs, before)
        assert termios.tcgetattr(theirs) == before


def _crash_after_a_key(keys: Keys, ours: int, theirs: int, before: Any) -> None:
    with keys:
        assert keys.pressed() == ""
        os.write(ours, b"s\xff")
        assert _soon(keys) == "s�"
        assert termios.tcgetattr(theirs) != before
        raise ZeroDivisionError


def _soon(keys: Keys) -> str:
    for _ in range(100):
        if pressed := keys.pressed():
            return pressed
        time.sleep(0.05)
    return ""


def test_once_is_plain_text_in_a_pipe(bus: Bench) -> None:
    done = run_inline("top", bus.endpoint, "--once")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("streamd 0.1.0 on tcp://")
    assert "no --metrics named: drops by reason, reconnects and lost packets are not known" in lines
    assert lines[-1].split()[:3] == ["gate", "live", lines[-1].split()[2]]
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.long
def test_once_gives_up_by_itself() -> None:
    done = run_inline("top", "tcp://127.0.0.1:1", "--once")
    assert (done.returncode, done.stdout) == (1, "")
    waiting, given_up = done.stderr.splitlines()
    assert "waiting" in waiting
    assert "no status within 10 s; is a daemon running" in given_up


def test_once_as_json(bus: Bench) -> None:
    done = run_inline("top", bus.endpoint, "--once", "--json", "--metrics", "127.0.0.1:1")
    told = json.loads(done.stdout)
    assert (told["schema"], told["run"], told["streams"]["gate"]["fps"]) == ("streamd.top/1", "r1", 10)
    assert "127.0.0.1:1 does not answer" in told["metrics_problem"]


def test_what_cannot_be_shown_is_told_of(bus: Bench) -> None:
    fails(run("top", bus.endpoint, stdin=subprocess.DEVNULL), 2, "terminal", "--once")
    fails(run_inline("top", bus.endpoint, "--json"), 2, "--once")
    fails(
        run_inline("top", bus.endpoint, "--once", "--metrics", "nonsense"),
        2,
        "--metrics nonsense",
        "HOST:PORT",
    )
    fails(run_inline("top", "nonsense", "--once"), 2, "nonsense is no endpoint")
    fails(run_inline("top", "tcp://127.0.0.1:1", "--once", "--timeout", "0.5"), 1, "no status within 0.5 s")


@pytest.mark.parametrize("verb", ["top", "tail"])
def test_a_newer_daemon_is_called_one(verb: str) -> None:
    newer = session().replace(b".result/1", b".result/2").replace(b".status/1", b".status/2")
    with running(newer, Pace(loop=True)) as bench:
        arguments = ["--once"] if verb == "top" else []
        done = run_inline(verb, bench.endpoint, *arguments)
        fails(done, 1, bench.endpoint, "the daemon speaks streamd.", "/2", "update streamd on this side")
        if verb == "tail":
            with start("tail", bench.endpoint, "--json") as tail:
                assert tail.stdout is not None
                while json.loads(tail.stdout.readline())["schema"] != "streamd.result/2":
                    pass  # a test that hangs here is ended by its time-out
                tail.terminate()
