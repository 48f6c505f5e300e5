"""Subscribers that misbehave, signals at any time, and a daemon that is killed: what the rest notices."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from tests.faults.rig import CLIP, Rig
from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.rtsp_camera import Camera, Faults, Stream, units_of
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.long

TEST = {"url": "test:?rate=50&size=64x48", "max_age_ms": 10_000}


def _does_not_read(endpoint: str, seconds: float, rig: Rig) -> None:
    """A subscriber to everything that takes nothing in, for so long."""
    with zmq.Context() as context, context.socket(zmq.SUB) as lazy:
        lazy.setsockopt(zmq.LINGER, 0)
        lazy.setsockopt(zmq.RCVHWM, 1)
        lazy.connect(endpoint)
        lazy.subscribe(b"")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rig.serves(20)
        rig.sound()


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.soak)])
def test_a_subscriber_that_stops_reading(tmp_path: Path, seconds: int) -> None:
    with Rig(tmp_path, TEST) as rig:
        rig.serves(50)
        process = psutil.Process(rig.daemon.process.pid)
        before = process.memory_info().rss
        _does_not_read(rig.daemon.endpoint, seconds, rig)
        # A queue of 1000 messages of some kilobytes at most.
        assert process.memory_info().rss - before < 30 * 1024 * 1024
        assert rig.daemon.stop() == 0


def test_a_subscriber_that_is_killed(tmp_path: Path) -> None:
    with Rig(tmp_path, TEST) as rig:
        rig.serves()
        descriptors = psutil.Process(rig.daemon.process.pid).num_fds()
        for _ in range(5):
            with subprocess.Popen(
                [sys.executable, "-m", "streamd", "tail", rig.daemon.endpoint, "--json"],
                stdout=subprocess.PIPE,
            ) as tail:
                assert tail.stdout is not None
                tail.stdout.readline()
                tail.kill()
        rig.serves()
        rig.sound()
        deadline = time.monotonic() + 30
        while psutil.Process(rig.daemon.process.pid).num_fds() > descriptors:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@contextlib.contextmanager
def silent() -> Iterator[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"url": f"rtsp://127.0.0.1:{server.getsockname()[1]}/camera", "timeout_s": 60}


@contextlib.contextmanager
def refusing() -> Iterator[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield {"url": f"rtsp://127.0.0.1:{port}/camera"}


@contextlib.contextmanager
def camera(tmp_path: Path, faults: Faults | None = None) -> Iterator[dict[str, Any]]:
    units = units_of(make(tmp_path / "camera.mp4", CLIP))
    with Camera(units, Stream(rate=25), faults=faults) as running:
        yield {"url": running.url, "timeout_s": 60}


@contextlib.contextmanager
def film(tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield {"url": str(make(tmp_path / "film.mp4", Clip(frames=5))), "pace": "fast"}


STATES: dict[str, Callable[[Path], contextlib.AbstractContextManager[dict[str, Any]]]] = {
    "connecting": lambda _: silent(),
    "live": camera,
    "stalled": lambda folder: camera(folder, Faults(stall_at="PLAYING")),
    "lost": lambda _: refusing(),
    "ended": film,
}


@pytest.mark.parametrize("reader", ["own", "libav"])
@pytest.mark.parametrize("state", STATES)
def test_sigterm_in_every_state(tmp_path: Path, state: str, reader: str) -> None:
    model = make_number_model(tmp_path / "number.onnx")
    with STATES[state](tmp_path) as stream, contextlib.ExitStack() as stack:
        if state != "ended":
            stream["reader"] = reader
        streams = {"a": stream, "b": TEST}
        daemon = stack.enter_context(RunningDaemon(write_config(tmp_path / "c.yaml", model, streams)))
        deadline = time.monotonic() + 60
        while daemon.streams()["a"]["state"] != state:
            assert time.monotonic() < deadline, daemon.streams()
            time.sleep(0.05)
        watcher = stack.enter_context(Reader(daemon.endpoint))
        assert watcher.wait(lambda messages: len(messages) > 5)
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5  # the promise of the command, not a measurement
        ends = [m["event"] for m in watcher.of("/events") if not m.get("replay")]
        assert ends.count("removed") == 2
        assert "stopping" in ends


def test_killed_and_started_again_it_takes_its_place(tmp_path: Path) -> None:
    """The socket file of the dead one is in the way of nobody; subscribers come back by themselves."""
    model = make_number_model(tmp_path / "number.onnx")
    endpoint = f"ipc://{tmp_path}/bus"
    config = write_config(tmp_path / "c.yaml", model, {"a": TEST}, publish={"bind": endpoint})
    with Reader(endpoint) as reader:
        runs = []
        for _ in range(3):
            with RunningDaemon(config) as daemon:
                before = len(reader.messages)
                assert reader.wait(lambda messages: len(messages) > before + 20)  # noqa: B023
                runs.append(reader.messages[-1][1]["run"])
                daemon.process.send_signal(signal.SIGKILL)
                assert daemon.wait() == -signal.SIGKILL
        assert len(set(runs)) == 3
        for run in runs:
            seqs = [m["seq"] for m in reader.of("a/results") if m["run"] == run]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
