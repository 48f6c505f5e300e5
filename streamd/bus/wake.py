"""Ends the poll of a thread that owns a ZeroMQ socket."""

from __future__ import annotations

import contextlib
import socket


class Wake:
    """Lets other threads end a poll: a pair of connected sockets, never blocking."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __call__(self) -> None:
        try:
            self._writer.send(b"w")
        except BlockingIOError:
            pass  # enough wake-ups are waiting already
        except OSError:
            pass  # closed: the poller has ended

    def fileno(self) -> int:
        return self._reader.fileno()

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        # What is left of more than these ends the next poll as well, which does no harm.
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
