"""What the daemon tells systemd while it starts, serves, hangs and ends: a process of its own, a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.daemon import RunningDaemon, write_config
from tests.support.notify_socket import NotifySocket, Told
from tests.support.number_model import make_number_model

pytestmark = pytest.mark.long

LOST = {"url": "none.mp4"}


def env_of(systemd: NotifySocket, watchdog_s: float = 30) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}


def start(config: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamd", "run", "-c", str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **env})


def count(told: list[Told], field: str, since_s: float = 0) -> int:
    return sum(field in one.fields for one in told if one.at_s >= since_s)


def says(*words: str) -> Callable[[list[Told]], bool]:
    """Whether a status has come that holds all these words."""
    return lambda told: any(all(word in one.fields.get("STATUS", "") for word in words) for one in told)


def goes_on_being_fed(systemd: NotifySocket, times: int = 4) -> bool:
    since_s = time.monotonic()
    return systemd.wait(lambda told: count(told, "WATCHDOG", since_s) >= times)


def test_ready_is_told_when_the_endpoint_and_the_pages_answer(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx", burn=50)
    endpoint = tmp_path / "results"
    config = write_config(tmp_path / "c.yaml", model, {"a": LOST}, publish={"bind": f"ipc://{endpoint}"})
    with NotifySocket(tmp_path / "notify") as systemd, start(config, env_of(systemd)) as process:
        try:
            ready = systemd.wait_for("READY")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(endpoint))  # refused unless somebody listens
            assert ready.fields["STATUS"].startswith("ready: m@")
            before = systemd.told[: systemd.told.index(ready)]
            assert before[0].fields["STATUS"].startswith("starting m@")
            assert count(before, "EXTEND_TIMEOUT_USEC") >= 1
            # The watchdog counts from READY on.
            assert count(before, "WATCHDOG") == 0
            process.terminate()
            assert process.wait(20) == 0
            assert systemd.told[-1].fields == {"STOPPING": "1", "STATUS": "stopping"}
            assert count(systemd.told, "READY") == 1
        finally:
            process.kill()


def test_an_idle_daemon_makes_progress(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4", "enabled": False}})
    with NotifySocket() as systemd, RunningDaemon(config, env_of(systemd)) as daemon:
        assert goes_on_being_fed(systemd)
        assert systemd.wait(says("0 of 0 streams live"))
        assert daemon.stop() == 0


def test_without_a_watchdog_none_is_fed(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": LOST})
    with NotifySocket() as systemd, RunningDaemon(config, {"NOTIFY_SOCKET": systemd.address}):
        assert systemd.wait(lambda told: count(told, "STATUS") >= 4)
        assert not systemd.of("WATCHDOG")


def test_the_status_names_what_is_live_and_what_is_not(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    streams = {"a": {"url": "test:?rate=20"}, "b": LOST}
    config = write_config(tmp_path / "c.yaml", model, streams)
    with NotifySocket() as systemd, RunningDaemon(config, env_of(systemd)):
        assert systemd.wait(
            says("1 of 2 streams live", "on CPUExecutionProvider; not live: b lost (not_found)")
        )
        rates = [float(text.split(", ")[1].split()[0]) for text in systemd.of("STATUS") if "1 of 2" in text]
        assert max(rates) > 0


def test_a_worker_that_hangs_is_fed_for_no_more(tmp_path: Path) -> None:
    """The model never returns from the first picture with four bits, which is the 16th."""
    model = make_number_model(tmp_path / "m.onnx", hangs_above=3)
    streams = {"a": {"url": "test:?rate=10", "max_age_ms": None}}
    config = write_config(tmp_path / "c.yaml", model, streams)
    with NotifySocket() as systemd, RunningDaemon(config, env_of(systemd)) as daemon:
        systemd.wait_for("WATCHDOG")
        assert systemd.wait(says("hanging: infer"))
        hung_s = time.monotonic()
        assert systemd.wait(lambda told: count(told, "STATUS", hung_s) >= 3)  # the process lives
        # 10 s without a turn are what makes it one that hangs: no feed in the last 8 of them, and none later.
        assert count(systemd.told, "WATCHDOG", hung_s - 8) == 0
        with pytest.raises(urllib.error.HTTPError, match="503"):
            daemon.page("/healthz")
        assert daemon.page("/readyz") == "ready\n"
        # As systemd's watchdog does it: what each thread was at stands in the log.
        assert daemon.stop(signal.SIGABRT) == -signal.SIGABRT
        assert [line for line in daemon.log if "pipeline/worker.py" in line and "in _serve" in line]


def test_a_reload_is_told_from_its_begin_to_its_end_and_how_it_came_out(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    streams: dict[str, Any] = {"a": {"url": "test:?rate=10"}}
    config = write_config(tmp_path / "c.yaml", model, streams)
    good = config.read_text()
    with NotifySocket() as systemd, RunningDaemon(config, env_of(systemd)) as daemon:
        for turn, text in enumerate((good.replace("rate=10", "rate=11"), "modl: {}", good), 1):
            config.write_text(text)
            before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            daemon.process.send_signal(signal.SIGHUP)
            assert systemd.wait(lambda told, turn=turn: count(told, "READY") == turn + 1)
            begun = [one for one in systemd.told if "RELOADING" in one.fields]
            assert len(begun) == turn
            assert before_us <= int(begun[-1].fields["MONOTONIC_USEC"]) <= begun[-1].at_s * 1e6
            done = [one for one in systemd.told if "READY" in one.fields][-1]
            assert ("reload refused: " in done.fields["STATUS"]) == (text == "modl: {}")
            # It stays in the status of each second until the next reload.
            seen = len(systemd.told)
            assert systemd.wait(lambda told, seen=seen: says("1 of 1 streams live")(told[seen:]))
            last = systemd.of("STATUS")[-1]
            assert ("reload refused: " in last) == (text == "modl: {}")
        assert goes_on_being_fed(systemd)
        assert daemon.stop() == 0


def test_decoders_that_hang_withhold_nothing(tmp_path: Path) -> None:
    """One inside libav for its whole time-out, one whose camera went silent: that is their streams' matter."""
    model = make_number_model(tmp_path / "m.onnx")
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        streams: dict[str, Any] = {
            "inside": {"url": url, "reader": "libav", "timeout_s": 60},
            "quiet": {"url": "test:?rate=10&stall=1/300"},
        }
        config = write_config(tmp_path / "c.yaml", model, streams)
        with NotifySocket() as systemd, RunningDaemon(config, env_of(systemd)) as daemon:
            assert systemd.wait(says("inside connecting", "quiet stalled (timeout)"))
            assert goes_on_being_fed(systemd)
            assert daemon.page("/healthz") == "ok\n"
            assert daemon.stop() == 0


def test_a_signal_while_an_engine_is_built(tmp_path: Path) -> None:
    """The warm-up never ends; time is asked for each second, and the first signal ends it."""
    model = make_number_model(tmp_path / "m.onnx", hangs_above=-1)
    config = write_config(tmp_path / "c.yaml", model, {"a": LOST})
    with NotifySocket() as systemd, start(config, env_of(systemd)) as process:
        try:
            assert systemd.wait(lambda told: count(told, "EXTEND_TIMEOUT_USEC") >= 4)
            assert systemd.wait(says("starting m@", "(3 s)"))
            started = time.monotonic()
            process.terminate()
            assert process.wait(20) == 0
            assert time.monotonic() - started < 5
            assert not systemd.of("READY")
            assert not systemd.of("WATCHDOG")
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_socket_that_is_none_changes_nothing(tmp_path: Path, kind: str) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": LOST})
    there = tmp_path / "notify"
    if kind == "a file":
        there.write_text("kept")
    with RunningDaemon(config, {"NOTIFY_SOCKET": str(there), "WATCHDOG_USEC": "rubbish"}) as daemon:
        time.sleep(1.5)
        assert daemon.page("/healthz") == "ok\n"
        assert daemon.stop() == 0
    assert not there.exists() or there.read_text() == "kept"


def test_a_full_socket_holds_nothing_up_and_ready_comes_later(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": LOST})
    with NotifySocket(deaf=True) as systemd:
        systemd.fill()
        with RunningDaemon(config, env_of(systemd)) as daemon:
            assert daemon.page("/readyz") == "ready\n"
            assert daemon.page("/healthz") == "ok\n"
            systemd.listen()
            assert systemd.wait(lambda told: count(told, "READY") == 1)
            assert goes_on_being_fed(systemd)
            assert daemon.stop() == 0


LOGIN = {"url": "rtsp://127.0.0.1:9/x", "username": "u", "password": "${cred:gate}"}


@pytest.mark.parametrize(
    ("section", "values", "code", "word"),
    [
        ("streams", {"a": LOGIN}, 1, "LoadCredential=gate"),
        ("model", {"path": "none.onnx"}, 1, "none.onnx"),
        ("runtime", {"providers": ["tensorrt"], "fallback": False}, 1, "tensorrt"),
        ("publish", {"bind": "tcp://127.0.0.1:BUSY"}, 1, "in use"),
        ("publish", {"bnd": "tcp://127.0.0.1:0"}, 2, "bnd"),
        ("model", {"path": "c.yaml"}, 2, "c.yaml"),
    ],
    ids=["credential", "no model", "provider", "port", "key", "bad model"],
)
def test_only_what_a_restart_cannot_mend_ends_with_2(
    tmp_path: Path, section: str, values: dict[str, Any], code: int, word: str
) -> None:
    """2 is what the unit does not start again."""
    config = write_config(
        tmp_path / "c.yaml", make_number_model(tmp_path / "m.onnx"), {"a": {"url": "test:"}}
    )
    whole = yaml.safe_load(config.read_text())
    whole[section] = values
    with socket.create_server(("127.0.0.1", 0)) as busy, NotifySocket() as systemd:
        config.write_text(yaml.safe_dump(whole).replace("BUSY", str(busy.getsockname()[1])))
        with start(config, env_of(systemd)) as process:
            _, told = process.communicate(timeout=60)
        assert process.returncode == code, told
        assert word in told
        assert not systemd.of("READY")
