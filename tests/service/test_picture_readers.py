"""Whoever reads the pictures, or cannot, costs the results nothing; who comes and goes, and who may not read."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from streamd import Pictures, pictures
from streamd.core.errors import StreamdError
from streamd.models.store import store_of
from streamd.service import daemon as daemon_module
from streamd.service.configured import describe_configured, runtime_options
from streamd.service.daemon import Daemon
from streamd.service.fleet import RunningModel
from streamd.service.host import Host
from streamd.service.loading import load
from streamd.service.render import JpegEncoder
from streamd.service.start import open_detector
from tests.bus.test_curve import Keys
from tests.bus.test_pictures import STUCK
from tests.support.daemon import RunningDaemon, metric, write_config
from tests.support.number_model import make_number_model
from tests.support.waiting import until
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow

ANY_PORT = "tcp://127.0.0.1:0"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


@pytest.mark.long
def test_results_alone_cause_no_encode_and_a_subscriber_that_is_gone_ends_it(
    tmp_path: Path, model: Path
) -> None:
    streams = {name: {"url": "test:?size=64x48&rate=50"} for name in ("a", "b")}
    config = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": ANY_PORT, "frames_max_fps": 50}
    )

    def seen() -> float:
        return metric(daemon, "streamd_pictures_sent_total")

    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as results:
        assert results.wait(lambda _: len(results.of("a/results")) >= 50)
        page = daemon.page("/metrics")
        counters = re.findall(r"^streamd_pictures_\w+_total\{.*\} (\S+)$", page, re.M)
        assert counters == ["0.0"] * 6
        for _ in range(2):
            command = [sys.executable, "-c", STUCK, daemon.pictures, "streamd/a/"]
            before = seen()
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                until(lambda before=before: seen() > before + 10)
                process.kill()
            _until_still(seen)
        # Nobody asked for the other one.
        assert metric(daemon, "streamd_pictures_sent_total", "b") == 0
        assert daemon.stop() == 0


def _until_still(count: Callable[[], float]) -> None:
    """Wait until a counter that rose 50 times a second does not for a second."""
    deadline = time.monotonic() + 60
    before = count()
    while True:
        time.sleep(1)
        now = count()
        if now == before:
            return
        before = now
        assert time.monotonic() < deadline


@pytest.mark.long
def test_a_stuck_subscriber_slows_no_result_and_memory_stays(tmp_path: Path, model: Path) -> None:
    streams = {"a": {"url": "test:?size=1280x720&rate=20", "max_age_ms": None}}
    config = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": ANY_PORT, "frames_max_fps": 20}
    )
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint, b"streamd/a/results") as results:
        command = [sys.executable, "-c", STUCK, daemon.pictures, "streamd/"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "served\n"
            process.send_signal(signal.SIGSTOP)
            own = psutil.Process(daemon.process.pid)
            start = metric(daemon, "streamd_pictures_sent_total")
            sizes = []
            for step in range(1, 9):
                until(lambda step=step: metric(daemon, "streamd_pictures_sent_total") >= start + 20 * step)
                sizes.append(own.memory_info().rss / 1e6)
            process.kill()
        # 140 pictures: 190 MB of planes, 390 MB as BGR. What the kernel and two queues hold is there at the start.
        assert max(sizes) - sizes[0] < 60, sizes
        seqs = [body["seq"] for _, body in results.messages]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert len(seqs) >= 160
        assert daemon.page("/healthz") == "ok\n"
        assert daemon.stop() == 0


@pytest.mark.long
def test_an_endpoint_in_use_ends_with_one_line(tmp_path: Path, model: Path) -> None:
    streams = {"a": {"url": "test:?size=64x48"}}
    first = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": f"ipc://{tmp_path}/pictures"}
    )
    with RunningDaemon(first) as daemon:
        command = [sys.executable, "-m", "streamd", "run", "-c", str(first)]
        second = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
        assert second.returncode == 1
        last = second.stderr.splitlines()[-1]
        assert f"publish.frames: ipc://{tmp_path}/pictures is in use" in last
        assert "Traceback" not in second.stderr
        with pictures(daemon.pictures, timeout_s=60) as shown:
            assert next(shown)[0].stream == "a"
        assert daemon.stop() == 0


@pytest.mark.long
def test_with_encryption_pictures_are_for_listed_clients_too(tmp_path: Path, model: Path) -> None:
    keys = Keys(tmp_path)
    streams = {"a": {"url": "test:?size=64x48"}}
    publish = {"frames": ANY_PORT, "frames_max_fps": 20, "curve": str(keys.folder)}
    config = write_config(tmp_path / "c.yaml", model, streams, publish=publish)

    def reader(name: str) -> Pictures:
        own, server = keys(name)
        return pictures(daemon.pictures, timeout_s=60, keys=own, server_key=server)

    with RunningDaemon(config) as daemon, reader("alice") as alice, reader("bob") as bob:
        for shown in (alice, bob):
            assert next(shown)[1].startswith(b"\xff\xd8")
        with reader("mallory") as mallory, pytest.raises(StreamdError, match="refused the key of mallory"):
            next(mallory)
        with (
            pictures(daemon.pictures, timeout_s=60) as plain,
            pytest.raises(StreamdError, match="is encrypted"),
        ):
            next(plain)
        # Taken off the list: cut off here as well, and the other one comes back by herself.
        (keys.folder / "clients" / "bob.key").unlink()
        daemon.process.send_signal(signal.SIGHUP)
        with pytest.raises(StreamdError, match="refused the key of bob"):
            list(bob)
        latest = next(alice)[0].seq
        while next(alice)[0].seq < latest + 100:
            pass
        assert daemon.stop() == 0


def test_a_crash_of_the_thread_ends_the_daemon(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("what nobody expected")

    monkeypatch.setattr(JpegEncoder, "__call__", broken)
    endpoint = f"ipc://{tmp_path}/pictures"
    streams = {"a": {"url": "test:?size=64x48"}}
    path = write_config(tmp_path / "c.yaml", model, streams, publish={"frames": endpoint})
    config = load(path)
    options = runtime_options(config)
    with (
        open_detector(describe_configured(config.model, store_of({}).path), options) as (detector, warm_ms),
        pictures(endpoint, timeout_s=1),
    ):
        daemon = Daemon(config, RunningModel(detector, warm_ms), Host(path))
        started = time.monotonic()
        with pytest.raises(RuntimeError, match="what nobody expected"):
            daemon.run()
        assert time.monotonic() - started < 30 + daemon_module.STOP_S
    assert daemon.stuck == []


@pytest.mark.long
def test_streams_come_and_go_by_reload(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "c.yaml"
    publish = {"frames": ANY_PORT, "frames_max_fps": 20}
    one, other = {"a": {"url": "test:?size=64x48"}}, {"b": {"url": "test:?size=64x48"}}
    with (
        RunningDaemon(write_config(path, model, one, publish=publish)) as daemon,
        pictures(daemon.pictures, timeout_s=60) as shown,
    ):
        assert next(shown)[0].stream == "a"
        # Added again it is the same topic in another epoch. What was sent before may still be on its way.
        for streams, expected in ((one | other, ("b", 0)), (other, None), (one, ("a", 1))):
            write_config(path, model, streams, publish=publish)
            daemon.process.send_signal(signal.SIGHUP)
            until(lambda streams=streams: daemon.streams().keys() == streams.keys())
            while expected is not None:
                result, _ = next(shown)
                if (result.stream, result.epoch) == expected:
                    break
        assert daemon.stop() == 0


@pytest.mark.long
def test_without_the_endpoint_there_is_nothing_of_it(tmp_path: Path, model: Path) -> None:
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "test:?size=64x48"}})
    with RunningDaemon(config) as daemon:
        assert daemon.pictures == ""
        assert "streamd_pictures" not in daemon.page("/metrics")
        assert daemon.stop() == 0
