"""A plain subscriber thread for tests: collects (topic, message) until told to end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
import zmq.auth


class Reader:
    """Subscribes to `prefix` of `endpoint` in its own thread; `messages` grows as they come.

    keys: the client's file and the server's, read by pyzmq and not by streamd.
    """

    def __init__(self, endpoint: str, prefix: bytes = b"", keys: tuple[Path, Path] | None = None) -> None:
        self._keys = keys
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._changed = threading.Condition()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(endpoint, prefix))
        self._thread.start()

    def _read(self, endpoint: str, prefix: bytes) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.IPV6, endpoint.startswith("tcp://["))
            if self._keys is not None:
                socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(self._keys[0])
                socket.curve_serverkey, _ = zmq.auth.load_certificate(self._keys[1])
            socket.connect(endpoint)
            socket.subscribe(prefix)
            while not self._end.is_set():
                if socket.poll(50):
                    topic, body = socket.recv_multipart()
                    with self._changed:
                        self.messages.append((topic.decode(), json.loads(body)))
                        self._changed.notify_all()

    def wait(self, enough: Callable[[list[tuple[str, dict[str, Any]]]], bool], timeout_s: float = 30) -> bool:
        """Block until `enough(messages)`; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(self.messages), timeout_s)

    def of(self, suffix: str) -> list[dict[str, Any]]:
        """The messages whose topic ends like this."""
        return [message for topic, message in list(self.messages) if topic.endswith(suffix)]

    def close(self) -> None:
        self._end.set()
        self._thread.join(5)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
