"""Playing a recording over real sockets: bytes, timing, late subscribers, and how it ends."""

from __future__ import annotations

import json
import socket
import stat
import time
from pathlib import Path

import pytest

from streamd import subscribe
from streamd.bus.recording import head_line, message_line
from streamd.bus.replay import Pace
from tests.bus.test_recording import PARTS, recording_of
from tests.support.playing import Bench, results, running
from tests.support.raw_reader import RawReader


def test_a_subscriber_gets_all_of_it_byte_for_byte() -> None:
    with running(recording_of(PARTS), Pace()) as bench, RawReader(bench.endpoint) as reader:
        assert reader.wait(len(PARTS))
        bench.thread.join(20)
    assert reader.parts == PARTS
    assert bench.replay.sent == len(PARTS)
    assert bench.replay.fault is None


@pytest.mark.slow
@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_the_timing_is_kept_against_the_start(speed: float) -> None:
    number, interval_s = 200, 0.005
    with (
        running(results(number, int(interval_s * 1e6)), Pace(speed)) as bench,
        RawReader(bench.endpoint) as reader,
    ):
        assert reader.wait(number)
    taken = reader.at[-1] - reader.at[0]
    # Each message is late by a moment: were that added up, 200 of them would take far longer than one moment more.
    expected = (number - 1) * interval_s / speed
    assert 0.7 * expected < taken < 3 * expected + 1
    half = reader.at[number // 2] - reader.at[0]
    assert half < 0.9 * taken


def test_our_own_client_reads_it_without_a_gap() -> None:
    with running(results(100, 100), Pace()) as bench:
        with subscribe(bench.endpoint, stream="gate", timeout_s=30) as client:
            seqs = [next(client).seq for _ in range(100)]
        assert (seqs, client.gaps) == (list(range(100)), 0)


@pytest.mark.slow
def test_a_slow_subscriber_loses_nothing_when_it_is_fast() -> None:
    # More than all buffers between the two hold.
    number = 2500
    with (
        running(results(number, 1_000_000, padding=20_000), Pace(None)) as bench,
        RawReader(bench.endpoint, queue=1, pause_s=0.0003) as reader,
    ):
        assert reader.wait(number)
        assert [json.loads(parts[1])["seq"] for parts in reader.parts] == list(range(number))


@pytest.mark.slow
def test_a_late_subscriber_gets_the_last_events_and_the_status() -> None:
    def event(stream: str, n: int, name: str) -> list[bytes]:
        header = {"schema": "streamd.event/7", "stream": stream, "n": n, "event": name}
        return [f"streamd/{stream}/events".encode(), json.dumps(header).encode()]

    parts = [
        event("gate", 0, "connecting"),
        event("gate", 1, "live"),
        event("gate", 2, "reset"),
        event("gone", 3, "live"),
        event("gone", 4, "removed"),
        [b"streamd/_daemon/status", b'{"schema":"streamd.status/1","run":"a"}'],
        [b"streamd/rubbish/events", b"[1]"],
    ]
    lines = [message_line(0, message) for message in parts]
    # The next message comes after an hour.
    file = head_line("x", 1) + b"".join(lines) + message_line(3_600_000_000, parts[0])
    with running(file, Pace()) as bench:
        with RawReader(bench.endpoint) as first:
            assert first.wait(len(parts))
        with RawReader(bench.endpoint, b"streamd/") as late:
            assert late.wait(2)
    found = {parts[0]: json.loads(parts[1]) for parts in late.parts}
    assert found.keys() == {b"streamd/gate/events", b"streamd/_daemon/status"}
    assert (found[b"streamd/gate/events"]["n"], found[b"streamd/gate/events"]["replay"]) == (1, True)
    assert found[b"streamd/_daemon/status"] == {"schema": "streamd.status/1", "run": "a", "replay": True}


def test_it_plays_again_and_again_until_it_is_stopped() -> None:
    file = results(3, 1000)
    with running(file, Pace(speed=20, loop=True)) as bench:
        with RawReader(bench.endpoint) as reader:
            assert reader.wait(9)
        assert bench.thread.is_alive()
        started = time.monotonic()
        bench.stop.set()
        bench.thread.join(20)
        assert time.monotonic() - started < 10
    assert [json.loads(parts[1])["seq"] for parts in reader.parts[:9]] == [0, 1, 2] * 3


@pytest.mark.slow
def test_it_begins_with_the_first_subscriber_or_at_once() -> None:
    with running(results(3, 1000), Pace(wait=False)) as bench:
        bench.thread.join(20)
        assert bench.replay.sent == 3
    with running(results(3, 1000), Pace()) as bench:
        bench.thread.join(0.5)
        assert bench.replay.sent == 0
        with RawReader(bench.endpoint) as reader:
            assert reader.wait(3)


def test_a_cut_recording_is_played_up_to_its_last_whole_message() -> None:
    with running(results(10, 100)[:-300], Pace()) as bench, RawReader(bench.endpoint) as reader:
        bench.thread.join(20)
        assert reader.wait(bench.replay.sent)
    assert 5 < bench.replay.sent < 10
    assert bench.replay.fault is not None
    assert "is not whole" in bench.replay.fault


def test_an_address_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        bench = Bench(results(1, 1), Pace(), address)
        bench.thread.join(10)
    assert str(bench.failure).startswith(f"--bind: {address} is in use")


def test_an_ipc_endpoint_is_made_and_removed(tmp_path: Path) -> None:
    place = tmp_path / "bus"
    with running(results(3, 1000), Pace(), f"ipc://{place}") as bench:
        # Before anybody subscribes: three messages later it is over.
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        with RawReader(bench.endpoint) as reader:
            assert reader.wait(3)
            bench.thread.join(20)
    assert not place.exists()
