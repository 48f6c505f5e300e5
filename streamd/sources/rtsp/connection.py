"""The TCP (or TLS) connection to an RTSP server. Every wait ends within a fifth of a second of a stop."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown
from streamd.sources.advice import ADVICE, UNREACHABLE, silence
from streamd.sources.rtsp.target import Target
from streamd.sources.source import SourceRequest

SLICE_S = 0.2
"""The longest wait before the stop flag is looked at."""

CHUNK = 256 * 1024
"""Bytes that are taken from the socket at once; several pictures of a camera."""

_WANTS = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_Found = TypeVar("_Found")
_Address = tuple[socket.AddressFamily, tuple[object, ...]]


class StoppedError(Exception):
    """The stop flag was set while something was waited for."""


class Connection:
    """An open connection, used and closed by one thread.

    Opening it blocks at most the request's `timeout_s` for each of: the name, the connection, the encryption.
    Raises SourceError (unreachable, refused, tls, timeout) and StoppedError.
    """

    def __init__(self, target: Target, request: SourceRequest, stop: threading.Event) -> None:
        self._request = request
        self._stop = stop
        # recv would take this much memory from the kernel each time, and give it back.
        self._room = memoryview(bytearray(CHUNK))
        self._poller = select.poll()
        self.peer = ""
        """The server's IP address."""
        self._secure = target.secure
        self._socket = self._connected(target)
        try:
            if target.secure:
                self._socket = self._encrypted(self._socket, target.host)
        except BaseException:
            self._socket.close()
            raise
        self._poller.register(self._socket, select.POLLIN)

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self._socket.family

    @property
    def local(self) -> str:
        """Our own IP address on this connection."""
        return str(self._socket.getsockname()[0])

    def watch(self, file: socket.socket) -> None:
        """`receive` returns early when something can be read from `file` as well."""
        self._poller.register(file, select.POLLIN)

    def receive(self, wait_s: float) -> bytes:
        """What has come, up to CHUNK bytes; b"" when nothing came within `wait_s` seconds.

        Raises SourceError (eof, error) when the connection ended.
        """
        try:
            # TLS may hold bytes that the socket no longer shows.
            held = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
            if wait_s and not held and not self._poller.poll(wait_s * 1000):
                return b""
            size = self._socket.recv_into(self._room)
        except _WANTS:
            return b""
        except OSError as error:
            raise self._broken(error, "reading") from error
        if not size:
            raise SourceError(Reason.EOF, f"{self._name}: {ADVICE[Reason.EOF]}")
        return bytes(self._room[:size])

    def send(self, data: bytes) -> None:
        """Send all of it. Blocks at most `timeout_s`. Raises SourceError and StoppedError."""
        left = memoryview(data)
        try:
            started = time.monotonic()
            while left:
                try:
                    left = left[self._socket.send(left) :]
                except _WANTS as want:
                    # What waits to be read must not count as ready: nobody reads meanwhile.
                    event = select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT
                    self._wait(event, started, "sending")
        except OSError as error:
            raise self._broken(error, "sending") from error

    def close(self, farewell: bytes = b"") -> None:
        """Say `farewell` if that can be done at once, and close."""
        try:
            if farewell:
                self._socket.send(farewell)
                self._socket.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            pass  # the other side is gone, or does not read: it will see the connection end
        self._socket.close()

    # -- opening ---------------------------------------------------------------------------------------

    def _connected(self, target: Target) -> socket.socket:
        fault: SourceError | None = None
        for family, address in self._addresses(target):
            try:
                candidate = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                fault = self._unconnected(error)
                continue
            try:
                candidate.setblocking(False)
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                candidate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._connect(candidate, address)
                self.peer = str(address[0])  # a connection that was reset meanwhile no longer tells
                return candidate
            except OSError as error:
                fault = self._unconnected(error)
            except SourceError as error:
                fault = error
            except BaseException:
                candidate.close()
                raise
            candidate.close()
        assert fault is not None
        raise fault

    def _connect(self, candidate: socket.socket, address: tuple[object, ...]) -> None:
        code = candidate.connect_ex(address)
        if code == errno.EINPROGRESS:
            self._wait(select.POLLOUT, time.monotonic(), "connecting", candidate)
            code = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")

    def _addresses(self, target: Target) -> list[_Address]:
        """The host's addresses. Resolving cannot be interrupted: a thread does it and is left behind on a stop."""
        found: SimpleQueue[list[_Address]] = SimpleQueue()

        def resolve() -> None:
            try:
                rows = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
                found.put([(row[0], row[4]) for row in rows])
            except (OSError, ValueError):
                found.put([])

        if _is_numeric(target.host):
            resolve()
        else:
            # Not one of the crew, which waits for its threads: this one nobody can wake, and nobody needs.
            threading.Thread(target=resolve, name="resolve", daemon=True).start()
        addresses = self._until(lambda: _taken(found), "resolving the name")
        if not addresses:
            raise SourceError(Reason.UNREACHABLE, f"{self._name}: {ADVICE[Reason.UNREACHABLE]}")
        return addresses

    def _encrypted(self, plain: socket.socket, host: str) -> ssl.SSLSocket:
        tls = self._request.tls
        try:
            context = ssl.create_default_context(cafile=tls.ca)
        except (OSError, ssl.SSLError) as error:
            raise SourceError(
                Reason.TLS, f"{self._name}: tls.ca: {tls.ca} holds no certificates; give a PEM file"
            ) from error
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        started = time.monotonic()
        try:
            plain.getpeername()  # raises if it was reset meanwhile, when wrap_socket leaves its socket open
            wrapped = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            self._socket = wrapped  # it took the plain one's place: whoever closes on a failure closes it
            while True:
                try:
                    wrapped.do_handshake()
                    return wrapped
                except ssl.SSLWantReadError:
                    self._wait(select.POLLIN, started, "encrypting", wrapped)
                except ssl.SSLWantWriteError:
                    self._wait(select.POLLOUT, started, "encrypting", wrapped)
        except ssl.SSLCertVerificationError as error:
            why = (error.verify_message or "it does not verify").rstrip(".")
            raise SourceError(
                Reason.TLS,
                f"{self._name}: the certificate is refused: {why}; set tls: {{ca: ...}} or {{verify: false}}",
            ) from error
        except (OSError, ValueError) as error:
            raise SourceError(Reason.TLS, f"{self._name}: {ADVICE[Reason.TLS]}") from error

    # -- waiting ---------------------------------------------------------------------------------------

    def _wait(self, event: int, started: float, doing: str, on: socket.socket | None = None) -> None:
        """Until the socket is ready. Raises SourceError after `timeout_s` since `started`, and StoppedError."""
        poller = select.poll()
        poller.register(on or self._socket, event)
        self._until(lambda: poller.poll(SLICE_S * 1000) or None, doing, started)

    def _until(self, look: Callable[[], _Found | None], doing: str, started: float | None = None) -> _Found:
        started = time.monotonic() if started is None else started
        while True:
            if self._stop.is_set():
                raise StoppedError
            found = look()
            if found is not None:
                return found
            elapsed_s = time.monotonic() - started
            if elapsed_s >= self._request.timeout_s:
                raise silence(self._request, elapsed_s, doing)

    # -- faults ----------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return shown(self._request.url)

    def _unconnected(self, error: OSError) -> SourceError:
        if error.errno == errno.ECONNREFUSED:
            reason = Reason.REFUSED
        elif error.errno == errno.ECONNRESET:
            # Accepted and reset at once: whether that shows here or in the handshake is a matter of microseconds.
            reason = Reason.TLS if self._secure else Reason.EOF
        elif error.errno == errno.ETIMEDOUT:
            return silence(self._request, self._request.timeout_s, "connecting")
        elif error.errno in UNREACHABLE:
            reason = Reason.UNREACHABLE
        else:
            return SourceError(Reason.UNREACHABLE, f"{self._name}: no connection: {_plain(error)}")
        return SourceError(reason, f"{self._name}: {ADVICE[reason]}")

    def _broken(self, error: OSError, doing: str) -> SourceError:
        if isinstance(error, (ConnectionError, ssl.SSLEOFError)):
            return SourceError(Reason.EOF, f"{self._name}: {ADVICE[Reason.EOF]}")
        if error.errno == errno.ETIMEDOUT:
            return silence(self._request, self._request.timeout_s, doing)
        reason = Reason.UNREACHABLE if error.errno in UNREACHABLE else Reason.ERROR
        return SourceError(reason, f"{self._name}: {doing} failed: {_plain(error)}")


def _is_numeric(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return False
    return True


def _taken(queue: SimpleQueue[_Found]) -> _Found | None:
    try:
        return queue.get(timeout=SLICE_S)
    except Empty:
        return None


def _plain(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
