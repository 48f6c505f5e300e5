"""A real `streamd run` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import yaml

_READY = re.compile(r'publishing on ([^\s"]+)')
_PICTURES = re.compile(r'pictures on ([^\s"]+)')
_METRICS = re.compile(r"metrics on port (\d+)")


def write_config(path: Path, model: Path, streams: dict[str, Any], **sections: Any) -> Path:
    """A configuration on free ports."""
    config = {
        "model": {"path": str(model)},
        "runtime": {"providers": ["cpu"]},
        "streams": streams,
        "publish": {"bind": "tcp://127.0.0.1:0"},
        "metrics": {"listen": "127.0.0.1:0"},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    path.write_text(yaml.safe_dump(config))
    return path


class RunningDaemon:
    """Started in `__enter__`, which waits until it publishes; killed at last if it still runs."""

    def __init__(self, config: Path, env: dict[str, str] | None = None) -> None:
        self._config = config
        self._env = env
        self.endpoint = ""
        self.pictures = ""
        self.port = 0
        self.log: list[str] = []

    def __enter__(self) -> RunningDaemon:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamd", "run", "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(self._env or {})},
        )
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._ready.wait(60), self.log
        assert self.endpoint, "\n".join(self.log)
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if found := _METRICS.search(line):
                self.port = int(found[1])
            if found := _PICTURES.search(line):
                self.pictures = found[1]
            if "ready:" in line and (found := _READY.search(line)):
                self.endpoint = found[1]
                self._ready.set()
        self._ready.set()

    def streams(self) -> dict[str, Any]:
        """The page /streams."""
        return json.loads(self.page("/streams"))  # type: ignore[no-any-return]

    def page(self, path: str) -> str:
        """A page of the metrics endpoint."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 30) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


def metric(daemon: RunningDaemon, name: str, stream: str = "a") -> float:
    """The value of a stream's counter on the page of metrics."""
    found = re.search(rf'^{name}{{[^}}]*stream="{stream}"[^}}]*}} (\S+)$', daemon.page("/metrics"), re.M)
    assert found, name
    return float(found[1])
