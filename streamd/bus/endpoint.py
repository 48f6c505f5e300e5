"""Where a socket of the daemon is bound, by the same rules for each of them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zmq

from streamd.bus.admission import Admission, Door
from streamd.core.errors import OutputError

_LINGER_MS = 300  # what is sent but not yet written may hold the exit this long
_UMASK = threading.Lock()
_LONGEST_REQUEST = 1 << 16  # bytes; without a bound a stranger's one message could take all memory


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to bind, tcp:// or ipc://, and the key of the configuration that it stands under."""

    key: str
    address: str
    group: str | None = None
    """ipc only: the group that may connect; None: the daemon's own."""

    def open(self, socket_: zmq.Socket[bytes], again: str | None = None) -> str:
        """Bind; the endpoint bound to, which differs from the one asked for when that named port 0 or `*`.

        again: that endpoint, when it was bound before. Raises OutputError. For the thread that owns the socket;
        changes the process's umask for a moment.
        """
        if self.address.startswith("tcp://["):
            socket_.setsockopt(zmq.IPV6, 1)
        path = self._path()
        if path is not None:
            self._refuse_live_socket(path)
        # The mode is set after the bind: until then nobody but this user may connect.
        with _umask(0o177) if path is not None else contextlib.nullcontext():
            try:
                socket_.bind(again or self.address)
            except zmq.ZMQError as error:
                raise OutputError(self._failure(error)) from error
        if path is not None:
            self._open_to_group(path)
        return socket_.getsockopt_string(zmq.LAST_ENDPOINT)

    def try_out(self) -> None:
        """Bind a socket of its own for a moment, and nothing is left of it. Raises OutputError as `open` does."""
        with zmq.Context() as context, context.socket(zmq.XPUB) as socket_:
            self.open(socket_)
            self.unlink()

    def unlink(self) -> None:
        """Remove the socket's file, if it has one; for whoever bound it."""
        path = self._path()
        if path is not None:
            path.unlink(missing_ok=True)

    def _path(self) -> Path | None:
        return Path(self.address.removeprefix("ipc://")) if self.address.startswith("ipc://") else None

    def _refuse_live_socket(self, path: Path) -> None:
        """ZeroMQ silently takes over a socket file; another daemon that listens there must keep it."""
        try:
            mode = path.stat().st_mode
        except OSError:
            return  # nothing there; a folder that may not be entered is told of by the bind
        if not stat.S_ISSOCK(mode):
            raise OutputError(
                f"{self.key}: {self.address}: the file is there and is no socket; choose another path"
            )
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except OSError:
                return  # nobody listens: a leftover
        raise OutputError(
            f"{self.key}: {self.address} is in use; stop the other process or choose another path"
        )

    def _open_to_group(self, path: Path) -> None:
        try:
            if self.group is not None:
                shutil.chown(path, group=self.group)
            path.chmod(0o660)
        except (OSError, LookupError) as error:
            raise OutputError(
                f"publish.group: cannot give {path} to the group {self.group}: {error}"
            ) from error

    def _failure(self, error: zmq.ZMQError) -> str:
        what = {
            errno.EADDRINUSE: "is in use; stop the other process or choose another port",
            errno.EADDRNOTAVAIL: "is no address of this machine; use one of its own, or tcp://127.0.0.1:PORT",
            errno.ENODEV: "is no address of this machine; use one of its own, or tcp://127.0.0.1:PORT",
            errno.EACCES: "may not be bound by this user; choose a port above 1023 or another folder",
            errno.ENOENT: "has no folder; make it first",
            errno.ENAMETOOLONG: "is too long for a socket; choose a shorter path",
        }.get(error.errno or 0, f"cannot be bound: {error.strerror}")
        return f"{self.key}: {self.address} {what}"


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The process has one: two threads that changed it at a time would each put back what the other had set."""
    with _UMASK:
        before = os.umask(mask)
        try:
            yield
        finally:
            os.umask(before)


def serve(
    at: Endpoint,
    admission: Admission | None,
    prepare: Callable[[zmq.Socket[bytes]], None],
    entered: Callable[[str], None],
    attend: Callable[[zmq.Socket[bytes], Door | None], bool],
) -> None:
    """Open an XPUB socket and attend to it; returns when `attend` does with True. Raises OutputError.

    prepare: sets what must be set before the socket is bound; entered: is told where it was bound. When `attend`
    returns False, the socket is given up and another one takes its place, there. admission: encrypts, and says who
    may connect; None: everybody who can.
    """
    context = zmq.Context()
    door = None if admission is None else Door(context, admission)
    bound = None
    try:
        ended = False
        while not ended:
            with context.socket(zmq.XPUB) as socket_:
                socket_.setsockopt(zmq.LINGER, _LINGER_MS)
                socket_.setsockopt(zmq.MAXMSGSIZE, _LONGEST_REQUEST)
                prepare(socket_)
                if door is not None:
                    door.guard(socket_)
                bound = at.open(socket_, bound)
                entered(bound)
                ended = attend(socket_, door)
                if door is not None and not ended:
                    door.clear(socket_, bound)
    finally:
        if door is not None:
            door.close()
        context.term()
        if bound is not None:
            at.unlink()
