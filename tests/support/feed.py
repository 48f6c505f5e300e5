"""A daemon's endpoint without a daemon: messages that a test writes itself."""

from __future__ import annotations

import time
from pathlib import Path

import zmq


class Feed:
    """Bound in `__enter__`; `wait_for` so many readers before something is sent, or they miss it."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"ipc://{folder}/feed.ipc"

    def __enter__(self) -> Feed:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.bind(self.endpoint)
        return self

    def wait_for(self, readers: int, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while readers:
            assert self._socket.poll(max(0, deadline - time.monotonic()) * 1000), (
                f"{readers} readers are missing"
            )
            readers -= self._socket.recv().startswith(b"\x01")

    def send(self, topic: str, *parts: bytes) -> None:
        self._socket.send_multipart([topic.encode(), *parts])

    def __exit__(self, *_: object) -> None:
        self._socket.close(0)
        self._context.term()
