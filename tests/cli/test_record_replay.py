"""`streamd record` and `streamd replay`: files, signals, and what users get wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd.bus.recording import Recording
from streamd.bus.replay import Pace
from tests.bus.test_recording import PARTS, read, recording_of
from tests.support.command import fails, run, run_inline, start
from tests.support.playing import results, running, session
from tests.support.raw_reader import RawReader

pytestmark = pytest.mark.slow


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(path: Path, number: int) -> None:
    end = time.monotonic() + 60
    while lines_in(path) < number:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_recorded_is_played_byte_for_byte(tmp_path: Path) -> None:
    """Newer versions, unknown kinds, pictures and rubbish as well; a second recording of it is the same again."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(recording_of(PARTS))
    with start("replay", first, "--bind", "tcp://127.0.0.1:0") as replay:
        assert replay.stderr is not None
        endpoint = replay.stderr.readline().split("plays on ")[1].split(";")[0]
        done = run_inline("record", endpoint, second, "--timeout", "1")
        out, err = replay.communicate(timeout=60)
    assert replay.returncode == 0
    assert out == ""
    assert err == f"streamd: {first}: {len(PARTS)} messages sent\n"
    assert done.returncode == 1  # the time-out
    # The rubbish without a topic's prefix is nothing that a daemon's subscriber asks for.
    assert read(second.read_bytes()) == (PARTS[:-1], None)
    assert f"{len(PARTS) - 1} messages in" in done.stderr


def test_a_signal_ends_a_recording_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lossy = results(400, 5000).splitlines(keepends=True)
    del lossy[50:57]
    with running(b"".join(lossy), Pace(loop=True)) as bench, start("record", bench.endpoint, path) as record:
        wait_for_lines(path, 100)
        record.send_signal(signal.SIGINT)
        out, err = record.communicate(timeout=60)
    assert (record.returncode, out) == (0, "")
    found, fault = read(path.read_bytes())
    assert fault is None
    assert f"streamd: {path}: {len(found)} messages in " in err
    assert ", 7 lost on the bus" in err
    assert f"streamd:   gate         {len(found)} results, 7 lost" in err
    assert json.loads(path.read_bytes().splitlines()[-1])["lost"] == 7


def test_a_killed_recording_is_played_up_to_its_last_whole_message(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with running(session(), Pace(loop=True)) as bench, start("record", bench.endpoint, path) as record:
        wait_for_lines(path, 10)
        record.kill()
        record.communicate(timeout=60)
    whole, _ = read(path.read_bytes())
    with path.open("ab") as file:  # a kill in the middle of a write
        file.write(b'{"after_us": 9')
    done = run_inline("replay", path, "--bind", f"ipc://{tmp_path}/bus", "--no-wait", "--fast")
    assert done.returncode == 1
    assert f"{path}: {len(whole)} messages sent" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"streamd: {path}:{len(whole) + 2}: is not whole")


@pytest.mark.long
def test_a_recording_of_so_many_seconds_goes_to_stdout(tmp_path: Path) -> None:
    with running(session(), Pace(loop=True)) as bench:
        done = run("record", bench.endpoint, "-", "--duration", "0.6")
        assert done.returncode == 0, done.stderr
        found, fault = read(done.stdout.encode())
        assert found
        assert fault is None
        assert "streamd: stdout: " in done.stderr
        replay = run("replay", "-", "--bind", f"ipc://{tmp_path}/bus", "--no-wait", input=done.stdout)
    assert replay.returncode == 0
    assert f"stdin: {len(found)} messages sent" in replay.stderr


def test_a_recording_goes_on_when_the_daemon_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with running(results(100, 1000), Pace(loop=True)) as first:
        record = start("record", first.endpoint, path)
        try:
            wait_for_lines(path, 20)
            first.stop.set()
            first.thread.join(10)
            again = results(100, 1000).replace(b'"run":"r1"', b'"run":"r2"')
            before = lines_in(path)
            with running(again, Pace(loop=True), first.endpoint):
                wait_for_lines(path, before + 20)
                record.terminate()
                _, err = record.communicate(timeout=60)
        finally:
            record.kill()
            record.communicate()
    assert record.returncode == 0
    assert "the daemon was started again 1 times" in err
    assert {json.loads(parts[1])["run"] for parts in read(path.read_bytes())[0]} == {"r1", "r2"}


def test_a_full_disk_leaves_whole_lines() -> None:
    with running(session(), Pace(loop=True)) as bench:
        fails(
            run_inline("record", bench.endpoint, "/dev/full", "--force"),
            1,
            "/dev/full cannot be written any more",
        )


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write that goes past it is done in part, as there."""
    path = tmp_path / "a.jsonl"
    with running(results(1000, 1000), Pace(loop=True)) as bench:
        limit = (resource.RLIMIT_FSIZE, (5000, 5000))
        done = run("record", bench.endpoint, path, preexec_fn=lambda: resource.setrlimit(*limit))
    assert done.returncode == 1
    assert "a.jsonl cannot be written any more: File too large" in done.stderr.splitlines()[-1]
    found, fault = read(path.read_bytes())
    assert len(found) > 5
    assert path.read_bytes().endswith(b"\n")
    assert fault is not None
    assert "was cut: it has no end" in fault


def test_a_reader_that_has_gone_ends_a_recording() -> None:
    with running(session(), Pace(loop=True)) as bench, start("record", bench.endpoint, "-") as record:
        assert record.stdout is not None
        record.stdout.readline()
        record.stdout.close()
        assert record.wait(60) == 1
        assert record.stderr is not None
        assert "stdout: the reader has gone" in record.stderr.read()


def test_what_record_refuses(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("mine")
    nobody = "tcp://127.0.0.1:1"
    fails(run_inline("record", nobody, there), 2, "there.jsonl exists", "--force")
    assert there.read_text() == "mine"
    fails(run_inline("record", nobody), 2, "into which file")
    fails(run_inline("record", nobody, "a", "b"), 2, "one endpoint and one file")
    fails(run_inline("record", "nonsense", tmp_path / "a"), 2, "nonsense is no endpoint")
    fails(run_inline("record", nobody, tmp_path), 1, "is a folder")
    fails(run_inline("record", nobody, tmp_path / "none" / "a"), 1, "does not exist")
    fails(
        run_inline("record", nobody, tmp_path / "a", "--timeout", "0.5"), 1, "no message within 0.5 s", nobody
    )
    assert not (tmp_path / "a").exists()


@pytest.mark.long
def test_waiting_is_told_of_once(tmp_path: Path) -> None:
    done = run_inline("record", "tcp://127.0.0.1:1", tmp_path / "a", "--timeout", "3")
    waiting, given_up = done.stderr.splitlines()
    assert "no message so far, waiting; is a daemon running" in waiting
    assert "no message within 3 s" in given_up


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("bind", "warned"), [("tcp://0.0.0.0:0", True), ("tcp://127.0.0.1:0", False)])
def test_an_endpoint_that_others_reach_is_warned_of(tmp_path: Path, bind: str, warned: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(recording_of(PARTS))
    done = run_inline("replay", path, "--bind", bind, "--no-wait", "--fast")
    assert done.returncode == 0
    assert ("anyone who reaches this address can read the recording" in done.stderr) == warned


def test_what_replay_refuses(tmp_path: Path, taken: str) -> None:
    good = tmp_path / "good.jsonl"
    good.write_bytes(recording_of(PARTS))
    empty = tmp_path / "empty"
    empty.touch()
    text = tmp_path / "text"
    text.write_text("hello\n" * 10)
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(os.urandom(100_000))
    fails(run_inline("replay", empty), 2, "empty is empty")
    fails(run_inline("replay", text), 2, "text is no recording")
    fails(run_inline("replay", rubbish), 2, "rubbish is no recording")
    fails(run_inline("replay", tmp_path), 2, "is a folder")
    fails(run_inline("replay", tmp_path / "none"), 1, "none cannot be read")
    fails(run_inline("replay", "a\0b"), 1, "cannot be read")
    fails(run_inline("replay", good, "--bind", taken), 1, f"{taken} is in use")
    fails(run_inline("replay", good, "--bind", "nonsense"), 2, "--bind nonsense", "tcp://HOST:PORT")
    fails(run_inline("replay", good, "--speed", "2", "--fast"), 2, "choose one")
    for speed in ("0", "-1", "nan", "inf", "1e-300"):
        fails(run_inline("replay", good, "--speed", speed), 2, f"--speed {speed}", "must be 0.001 to 1000")
    pipe = run("replay", "-", "--loop", input=good.read_text(errors="replace"))
    fails(pipe, 2, "stdin cannot be played again")


@pytest.mark.long
def test_a_stopped_replay_ends_with_0(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(session())
    with start(
        "replay", path, "--bind", f"ipc://{tmp_path}/bus", "--loop", stdin=subprocess.DEVNULL
    ) as replay:
        assert replay.stderr is not None
        assert "begins when somebody subscribes" in replay.stderr.readline()
        with RawReader(f"ipc://{tmp_path}/bus") as reader:
            assert reader.wait(30)
            replay.terminate()
            assert replay.wait(60) == 0
    assert not (tmp_path / "bus").exists()


def test_the_duration_of_a_recording_is_its_real_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with running(results(1000, 10_000), Pace(loop=True)) as bench:
        done = run_inline("record", bench.endpoint, path, "--duration", "0.8")
    assert done.returncode == 0
    with path.open("rb") as file:
        recording = Recording(file, "a")
        after = [message.after_us for message in recording.messages()]
    assert after == sorted(after)
    assert recording.length_us > 500_000
    # 10 ms apart, as they were sent, in the mean.
    assert 5_000 < (after[-1] - after[0]) / (len(after) - 1) < 30_000
