"""Cameras as processes, and the ones that come and go."""

from __future__ import annotations

import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_START_S = 60.0
# Below the ports that the system gives to outgoing connections: one of those could take a dead camera's port.
_PORTS = range(15000, 32000)

UP_S = (20.0, 60.0)
"""A flapping camera is killed after this long."""
DOWN_S = (1.0, 5.0)
"""And comes back after this long."""


class CameraProcess:
    """One camera on 127.0.0.1; it keeps its port over `kill` and `start`. Used by one thread at a time."""

    def __init__(self, name: str, clip: Path, port: int, rate: float) -> None:
        self.name = name
        self.port = port
        self._command = [
            *(sys.executable, "-m", "tests.support.camera_process"),
            *(str(clip), str(port), str(rate)),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._spent_s = 0.0

    @property
    def url(self) -> str:
        """Its address."""
        return f"rtsp://127.0.0.1:{self.port}/camera"

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one that runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> int:
        """Start it and wait until it listens; the wall clock's microseconds then."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _START_S)[0]:
            raise RuntimeError(f"the camera {self.name} does not start")
        if not self._process.stdout.read(64).strip():
            raise RuntimeError(f"the camera {self.name} ended at its start, with {self._process.wait()}")
        return time.time_ns() // 1000

    def kill(self) -> None:
        """End it at once, as if it had lost its power."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def free_ports(count: int, chance: random.Random) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens now."""
    found: list[int] = []
    while len(found) < count:
        port = chance.choice(_PORTS)
        if port in found:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def flap(
    camera: CameraProcess,
    chance: random.Random,
    stop: threading.Event,
    up_s: tuple[float, float],
    returned: Callable[[str, int], None],
) -> None:
    """Kill the camera and bring it back, again and again, until `stop`; tells of each time that it is back."""
    while not stop.wait(chance.uniform(*up_s)):
        camera.kill()
        if stop.wait(chance.uniform(*DOWN_S)):
            return
        returned(camera.name, camera.start())
