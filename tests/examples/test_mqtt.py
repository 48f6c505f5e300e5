"""examples/mqtt_bridge.py between a real daemon and a real broker, each of which comes, goes and comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import example
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader

# Debian puts it where only root looks.
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
# The bridge's own patience is 5 s.
IMPATIENT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import mqtt_bridge as b; b.SILENCE_S = 2.0; b.main()"
)


class Broker:
    """Mosquitto, with no memory of what it retained before it was started."""

    def __init__(self, port: int, folder: Path) -> None:
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self._port = port

    def __enter__(self) -> Broker:
        assert MOSQUITTO
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)

        def listens() -> bool:
            assert self._process.poll() is None
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._port)) == 0

        until(listens)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Listener:
    """A client of the broker: `messages` are (topic, payload, retained) as they come."""

    def __init__(self, port: int) -> None:
        from paho.mqtt import client as mqtt

        self.messages: list[tuple[str, bytes, bool]] = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = lambda _, __, got: self.messages.append(
            (got.topic, got.payload, got.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def last(self, topic: str) -> bytes | None:
        return next((body for name, body, _ in reversed(list(self.messages)) if name == topic), None)

    def retained(self) -> dict[str, bytes]:
        return {topic: body for topic, body, retained in list(self.messages) if retained}

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def until(happened: Callable[[], Any], timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def port() -> int:
    if MOSQUITTO is None:
        pytest.skip("mosquitto: apt-get install mosquitto")
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt: pip install -r examples/requirements.txt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def bridge(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", IMPATIENT, str(example.EXAMPLES), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


STATE = {"streamd/available", "streamd/yard/events", "streamd/_daemon/events", "streamd/_daemon/status"}


@pytest.mark.long
def test_what_is_so_is_retained_and_survives_both_ends(tmp_path: Path, port: int) -> None:
    bus = f"ipc://{tmp_path}/bus"
    config = write_config(
        tmp_path / "c.yaml",
        make_number_model(tmp_path / "m.onnx"),
        {"yard": {"url": "test:?rate=10&size=128x64"}},
        publish={"bind": bus},
    )
    carried = bridge(bus, "--port", port)
    doomed = bridge(bus, "--port", port, "--prefix", "site")
    assert carried.stderr is not None
    assert carried.stderr.readline() == f"mqtt_bridge: no broker at localhost:{port}, trying again\n"
    with Broker(port, tmp_path), Listener(port) as listener:
        until(lambda: listener.last("streamd/available") == listener.last("site/available") == b"offline")
        with Reader(bus) as reader, RunningDaemon(config):
            until(lambda: sum(topic == "streamd/yard/results" for topic, *_ in listener.messages) > 10)
            assert listener.last("streamd/available") == listener.last("site/available") == b"online"
            doomed.kill()
            until(lambda: listener.last("site/available") == b"offline")  # its last will
            example.end(doomed, None)
            sent = {message["seq"]: message for message in reader.of("/results")}
            got = [
                json.loads(body) for topic, body, _ in listener.messages if topic == "streamd/yard/results"
            ]
            both = [message for message in got if message["seq"] in sent]
            assert both == [sent[message["seq"]] for message in both] != []
            assert [message["seq"] for message in got] == list(range(got[0]["seq"], got[0]["seq"] + len(got)))
            with Listener(port) as late:
                until(lambda: late.retained().keys() >= STATE)
                assert late.retained()["streamd/available"] == b"online"
                assert json.loads(late.retained()["streamd/yard/events"])["event"] == "live"
                assert json.loads(late.retained()["streamd/_daemon/status"])["streams"].keys() == {"yard"}
                assert not any(topic.endswith("/results") for topic in late.retained())
        until(lambda: listener.last("streamd/available") == b"offline")  # the daemon is silent
    with Broker(port, tmp_path), Listener(port) as anew:
        until(lambda: {topic for topic, *_ in anew.messages} >= STATE)
        assert anew.last("streamd/available") == b"offline"
        with RunningDaemon(config):
            until(lambda: anew.last("streamd/available") == b"online")
            code, _, err = example.end(carried, signal.SIGTERM)
            until(lambda: anew.last("streamd/available") == b"offline")
    assert code == 0
    told = [f"connected to localhost:{port}", f"localhost:{port} has gone", f"connected to localhost:{port}"]
    lines = [line for line in err.splitlines() if "no broker" not in line]
    assert len(lines) == len(told)
    for line, words in zip(lines, told, strict=True):
        assert line.startswith(f"mqtt_bridge: {words}")
