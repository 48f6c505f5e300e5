"""How the daemon ends: at a signal whenever it comes, after a crash, and when all files are done."""

from __future__ import annotations

import gc
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamd.models.store import store_of
from streamd.service import daemon as daemon_module
from streamd.service.configured import describe_configured, runtime_options
from streamd.service.daemon import Daemon
from streamd.service.fleet import RunningModel
from streamd.service.host import Host
from streamd.service.loading import load
from streamd.service.start import open_detector
from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow

PROMISE_S = 5.0


@contextmanager
def silent_server() -> Iterator[int]:
    """Accepts connections and never says a word; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


def run(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamd", "run", "-c", str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_model_loads(tmp_path: Path, number: int) -> None:
    model = make_number_model(tmp_path / "m.onnx", burn=200)
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4"}})
    with run(config) as process:
        assert process.stderr is not None
        assert "head" in process.stderr.readline()  # told just before the session is made
        started = time.monotonic()
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(20) == 0
        assert time.monotonic() - started < PROMISE_S
        assert "Traceback" not in rest


@pytest.mark.long
@pytest.mark.parametrize("reader", ["own", "libav"])
def test_a_signal_while_a_camera_is_silent(tmp_path: Path, reader: str) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    with silent_server() as port:
        streams = {"a": {"url": f"rtsp://127.0.0.1:{port}/x", "timeout_s": 30, "reader": reader}}
        config = write_config(tmp_path / "c.yaml", model, streams)
        with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as bus:
            assert bus.wait(lambda messages: any(m.get("event") == "connecting" for _, m in messages))
            started = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - started < PROMISE_S
            # Our own reader leaves in time; libav's cannot be woken, and the process goes without it.
            assert ("exiting without decode:a" in daemon.log[-1]) == (reader == "libav")


@pytest.mark.long
def test_a_client_that_dawdles_holds_up_neither_health_nor_the_end(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4"}})
    with RunningDaemon(config) as daemon, socket.create_connection(("127.0.0.1", daemon.port)) as client:
        over = threading.Event()

        def drip() -> None:
            try:
                client.sendall(b"GET /metrics HTTP/1.1\r\n")
                while not over.wait(0.2):
                    client.sendall(b"x")
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert daemon.page("/healthz") == "ok\n"
            started = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - started < PROMISE_S
        finally:
            over.set()
            dripping.join()


@pytest.mark.long
@pytest.mark.parametrize("style", ["text", "json"])
def test_a_model_that_fails_on_the_way_ends_with_1_and_one_line(tmp_path: Path, style: str) -> None:
    """Not 2: it had worked, so systemd may start it again."""
    model = make_number_model(tmp_path / "m.onnx", most_bits=2)
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    streams = {"a": {"url": str(clip)}, "b": {"url": "none.mp4"}}
    config = write_config(tmp_path / "c.yaml", model, streams, log={"format": style})
    with RunningDaemon(config) as daemon:
        assert daemon.wait() == 1
        told = [line for line in daemon.log if "failed to run" in line]
        assert len(told) == 1
        assert "infer: the model failed to run" in told[0]
        assert not [line for line in daemon.log if "Traceback" in line]
        if style == "json":
            assert all(json.loads(line)["message"] for line in daemon.log)


@pytest.mark.long
def test_a_crash_while_a_camera_is_silent_ends_as_soon(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx", most_bits=2)
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    with silent_server() as port:
        silent = {"url": f"rtsp://127.0.0.1:{port}/x", "timeout_s": 30}
        config = write_config(tmp_path / "c.yaml", model, {"a": {"url": str(clip)}, "b": silent})
        with RunningDaemon(config) as daemon:
            assert daemon.wait(20) == 1
            assert re.search(r"infer(/\d+)?: the model failed to run", daemon.log[-1])


@pytest.mark.long
def test_files_that_ended_are_worked_off_however_slow_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_number_model(tmp_path / "m.onnx", burn=100, batch=1)
    clip = make(tmp_path / "a.mp4", Clip(frames=8))
    streams = {name: {"url": str(clip), "pace": "fast"} for name in "abc"}
    path = write_config(tmp_path / "c.yaml", model, streams)
    config = load(path)
    monkeypatch.setattr(daemon_module, "STOP_S", 0.2)  # the end after a signal; nobody sends one
    options = runtime_options(config)
    with open_detector(describe_configured(config.model, store_of({}).path), options) as (detector, warm_ms):
        daemon = Daemon(config, RunningModel(detector, warm_ms), Host(path))
        watch, frozen = daemon._watch, []

        def watched(*given: Any) -> None:
            frozen.append(gc.get_freeze_count())
            watch(*given)

        monkeypatch.setattr(daemon, "_watch", watched)
        daemon.run()
    # While it serves, a collection passes over all that was there before; afterwards it does not.
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0
    for stream in daemon._fleet.streams.values():
        counts = stream.lane.ledger.snapshot()
        assert (counts.decoded, counts.published) == (8, 8)


def test_a_class_that_the_model_lacks_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4", "classes": ["bit77"]}})
    with run(config) as process:
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
        assert process.wait(20) == 2
    assert "streams.a.classes" in lines[-1]
    assert not [line for line in lines if "ready" in line or "metrics on" in line]


def test_one_inference_is_what_the_machine_runs_at_once(tmp_path: Path) -> None:
    """On the CPU pictures run one by one; the time of a batch of 8 would refuse age budgets that hold."""
    model = make_number_model(tmp_path / "m.onnx", burn=60)
    config = load(write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4"}}))
    options = runtime_options(config)
    with open_detector(describe_configured(config.model, store_of({}).path), options) as (detector, warm_ms):
        assert detector.limit == 1
        assert options.batch_limit == 8
        picture = np.zeros(detector.input.picture, detector.input.dtype)
        slowest_ms = 0.0
        for _ in range(5):
            started = time.monotonic()
            detector.run([picture])
            slowest_ms = max(slowest_ms, (time.monotonic() - started) * 1e3)
        assert warm_ms < 4 * slowest_ms


@pytest.mark.long
def test_all_streams_off_is_no_end(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4", "enabled": False}})
    with RunningDaemon(config) as daemon:
        time.sleep(1)
        assert daemon.process.poll() is None
        assert daemon.stop() == 0
