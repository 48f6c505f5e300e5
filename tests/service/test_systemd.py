"""The notifier against real sockets, and against what is none."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from streamd.core.secrets import Redactor
from streamd.core.timing import now_ns
from streamd.service.systemd import Notifier
from tests.support.notify_socket import NotifySocket

WATCHED = {"WATCHDOG_USEC": "30000000"}


def feeds(environ: dict[str, str]) -> bool:
    """Whether progress is told with this environment."""
    with NotifySocket() as systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address, **environ})
        notifier.progress([now_ns()])
        notifier.status("last")
        systemd.wait_for("STATUS")
        return bool(systemd.of("WATCHDOG"))


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_told_and_how(tmp_path: Path, abstract: bool) -> None:
    with NotifySocket(None if abstract else tmp_path / "notify") as systemd:
        assert systemd.address.startswith("@") == abstract
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
        notifier.building(now_ns() - 7_500_000_000, "building an engine")
        notifier.ready("first")
        before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notifier.reloading("loading anew")
        after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notifier.ready()
        notifier.stopping()
        systemd.wait_for("STOPPING")
        building, extended, ready, reloading, again, stopping = (one.fields for one in systemd.told)
        assert building == {"STATUS": "building an engine (7 s)"}
        assert extended == {"EXTEND_TIMEOUT_USEC": "30000000"}
        assert ready == {"READY": "1", "STATUS": "first"}
        assert before_us <= int(reloading.pop("MONOTONIC_USEC")) <= after_us
        assert reloading == {"RELOADING": "1", "STATUS": "loading anew"}
        assert again == {"READY": "1", "STATUS": "loading anew"}
        assert stopping == {"STOPPING": "1", "STATUS": "stopping"}


def test_a_build_without_end_gets_no_more_time() -> None:
    with NotifySocket() as systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
        notifier.building(now_ns() - 7300 * 1_000_000_000, "building")
        notifier.ready()
        systemd.wait_for("READY")
        assert systemd.of("STATUS")[0] == "building (7300 s)"
        assert not systemd.of("EXTEND_TIMEOUT_USEC")


def test_the_watchdog_is_fed_when_each_has_turned_since() -> None:
    with NotifySocket() as systemd:
        stale = now_ns()
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address, **WATCHED})
        notifier.progress([stale, now_ns()])
        notifier.progress([now_ns(), stale])
        worker, publisher = now_ns(), now_ns()
        notifier.progress([worker, publisher])  # the first feed
        notifier.progress([worker, publisher])
        notifier.progress([now_ns(), publisher])
        notifier.progress([worker, now_ns()])
        notifier.progress([now_ns(), now_ns()])  # the second one
        notifier.status("last")
        systemd.wait_for("STATUS")
        assert len(systemd.of("WATCHDOG")) == 2


@pytest.mark.parametrize("watched", [False, True])
def test_a_reload_may_take_as_long_as_there_is_progress(watched: bool) -> None:
    """systemd puts off the watchdog as well: so time is asked for with a feed, and without progress not at all."""
    with NotifySocket() as systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address, **(WATCHED if watched else {})})
        stale = now_ns()
        notifier.reloading()
        notifier.progress([now_ns()])
        notifier.progress([stale])
        notifier.ready()
        notifier.progress([now_ns()])
        notifier.status("last")
        assert systemd.wait(lambda told: bool(told) and told[-1].fields == {"STATUS": "last"})
        feed = {"WATCHDOG": "1"} if watched else {}
        extended = {**feed, "EXTEND_TIMEOUT_USEC": "10000000"}
        others = [one.fields for one in systemd.told if "STATUS" not in one.fields]
        assert others == [one for one in (extended, feed) if one]


@pytest.mark.slow
@pytest.mark.parametrize("usec", ["", "0", "-5", "abc", "1e6", "3.5", "٣٠", " 30", "9" * 5000])
def test_a_watchdog_time_that_is_none(usec: str) -> None:
    assert not feeds({"WATCHDOG_USEC": usec})


@pytest.mark.slow
def test_a_watchdog_meant_for_another_process() -> None:
    assert feeds(WATCHED)
    assert feeds({**WATCHED, "WATCHDOG_PID": str(os.getpid())})
    assert not feeds({**WATCHED, "WATCHDOG_PID": str(os.getppid())})
    assert not feeds({**WATCHED, "WATCHDOG_PID": "rubbish"})


def test_a_status_is_one_line_without_secrets_and_not_too_long() -> None:
    redact = Redactor()
    redact.learn({"s3cret"})
    with NotifySocket() as systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address}, redact)
        notifier.status("a\nREADY=1\r\0b s3cret \udcff")
        notifier.status("€" * 100_000)
        notifier.status("plain")
        notifier.remark("reload", "reload refused: s3cret")
        notifier.status("next")
        notifier.remark("reload", None)
        assert systemd.wait(lambda told: len(told) == 6)
        first, long, *others = systemd.of("STATUS")
        assert first == "a READY=1 b *** ?"
        assert 1 < len(long.encode()) < 2000
        assert others == ["plain", "plain; reload refused: ***", "next; reload refused: ***", "next"]
        assert not systemd.of("READY")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        "@",
        "notify",
        "vsock:2:1234",
        "/missing",
        "/file",
        "/folder",
        "/" + "x" * 4000,
        "@nobody",
        "/\udcff",
    ],
    ids=lambda address: ascii(address[:8]),
)
def test_whatever_the_socket_is_nothing_is_raised(tmp_path: Path, address: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    there = f"{tmp_path}{address}" if len(address) > 1 and address[0] == "/" else address
    notifier = Notifier({"NOTIFY_SOCKET": there, **WATCHED})
    for _ in range(20):
        notifier.building(now_ns(), "x")
        notifier.ready("x")
        notifier.reloading()
        notifier.progress([now_ns()])
    notifier.stopping()


def test_a_stream_socket_and_one_that_is_closed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "stream"))
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "stream")}).ready("x")
    with NotifySocket(tmp_path / "notify") as systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    notifier.ready("x")


def test_a_full_socket_blocks_nobody_and_no_state_is_lost() -> None:
    with NotifySocket(deaf=True) as systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address, **WATCHED})
        systemd.fill()
        # A call that blocked would never come back: nobody reads.
        notifier.ready("up")
        notifier.status("lost")
        notifier.progress([now_ns()])
        notifier.reloading("again")
        notifier.ready("done")
        systemd.listen()
        assert systemd.wait(lambda told: len(told) >= 1)
        while not systemd.of("READY"):
            notifier.status("later")
            time.sleep(0.01)
        notifier.status("last")
        assert systemd.wait(lambda told: told[-1].fields == {"STATUS": "last"})
        states = [next(iter(one.fields)) for one in systemd.told if len(one.fields) > 1]
        assert states == ["READY", "RELOADING", "READY"]
        assert "lost" not in systemd.of("STATUS")
