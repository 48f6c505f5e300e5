"""A subscriber that keeps the parts of each message as they came, and when."""

from __future__ import annotations

import threading
import time

import zmq


class RawReader:
    """Subscribes in its own thread; ends when `enough` messages are there, or `close` is called."""

    def __init__(self, endpoint: str, prefix: bytes = b"", queue: int = 1000, pause_s: float = 0.0) -> None:
        self.parts: list[list[bytes]] = []
        self.at: list[float] = []
        """Monotonic seconds."""
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(endpoint, prefix, queue))
        self._thread.start()

    def _read(self, endpoint: str, prefix: bytes, queue: int) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, queue)
            socket.connect(endpoint)
            socket.subscribe(prefix)
            while not self._end.is_set():
                if socket.poll(50):
                    parts = socket.recv_multipart()
                    with self._changed:
                        self.at.append(time.monotonic())
                        self.parts.append(parts)
                        self._changed.notify_all()
                    if self._pause_s:
                        time.sleep(self._pause_s)

    def wait(self, number: int, timeout_s: float = 60) -> bool:
        """Block until so many messages came; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.parts) >= number, timeout_s)

    def __enter__(self) -> RawReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(5)
