"""The socket that systemd would give a service, and what arrives on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Told(NamedTuple):
    """One message: when it arrived (monotonic seconds), and its lines."""

    at_s: float
    fields: dict[str, str]


class NotifySocket:
    """Reads in a thread of its own unless `deaf`: then the kernel's queue fills up. `listen` ends that."""

    def __init__(self, path: Path | None = None, *, deaf: bool = False) -> None:
        self.told: list[Told] = []
        self._changed = threading.Condition()
        self._end = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Without a path the kernel chooses an abstract name.
        self._socket.bind("" if path is None else str(path))
        self._socket.settimeout(0.1)
        name = self._socket.getsockname()
        self.address = name if isinstance(name, str) else "@" + name[1:].decode()
        self._thread = threading.Thread(target=self._read)
        if not deaf:
            self._thread.start()

    def listen(self) -> None:
        """Begin to read."""
        self._thread.start()

    def fill(self) -> None:
        """Send to the deaf socket until its queue is full."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            name = self._socket.getsockname()
            for _ in range(100_000):
                try:
                    other.sendto(b"STATUS=filler", name)
                except BlockingIOError:
                    return
        raise AssertionError("the queue has no end")

    def _read(self) -> None:
        while not self._end.is_set():
            try:
                text = self._socket.recv(1 << 16).decode()
            except TimeoutError:
                continue
            fields = dict(line.split("=", 1) for line in text.split("\n"))
            with self._changed:
                self.told.append(Told(time.monotonic(), fields))
                self._changed.notify_all()

    def wait(self, enough: Callable[[list[Told]], bool], timeout_s: float = 60) -> bool:
        """Block until `enough(told)`; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(self.told), timeout_s)

    def wait_for(self, field: str, timeout_s: float = 60) -> Told:
        """Block until a message with this field has come; the first one."""
        assert self.wait(lambda told: any(field in one.fields for one in told), timeout_s), self.told
        return next(one for one in self.told if field in one.fields)

    def of(self, field: str) -> list[str]:
        """The values of a field so far."""
        return [one.fields[field] for one in list(self.told) if field in one.fields]

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join(5)
        self._socket.close()
