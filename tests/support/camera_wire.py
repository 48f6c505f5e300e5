"""A camera's end of one TCP connection, and the record of what came over all of them."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_POLL_S = 0.2


@dataclass(frozen=True)
class Request:
    """One request as it was read. Header names are in lower case; connections are counted from 0."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    received_ns: int
    connection: int


@dataclass(frozen=True)
class Report:
    """One RTCP packet (compound or not) from a client; `track` is "video" or "audio"."""

    packet: bytes
    track: str
    received_ns: int
    connection: int


@dataclass(frozen=True)
class Sent:
    """One unit that went out: its index in the units, the time its last packet was handed to the socket.

    number: units sent before it in this session. timestamp: its RTP timestamp. lost: of its `packets`, how
    many were left out.
    """

    index: int
    sent_ns: int
    number: int
    timestamp: int
    packets: int
    lost: int
    connection: int


@dataclass
class Record:
    """All that happened to one camera; written by its threads, read by tests."""

    requests: list[Request] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Whoever waits looks again afterwards."""
        with self.changed:
            yield
            self.changed.notify_all()

    def until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait until it holds; False if it does not within the time."""
        with self.changed:
            return self.changed.wait_for(holds, timeout)


class GoneError(OSError):
    """The connection is closed, by whomever."""


class Wire:
    """A TCP or TLS connection. One thread reads; any may send, whole messages at a time."""

    def __init__(self, sock: socket.socket, segment: int | None, seed: int) -> None:
        self._sock = sock
        self._segment = segment
        self._chance = random.Random(seed)
        # OpenSSL's connections may not be read and written at the same time, so nothing blocks inside.
        self._use = threading.Lock()
        self._sending = threading.Lock()
        self._read = bytearray()
        self.closing = threading.Event()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)

    def encrypt(self, tls: ssl.SSLContext) -> None:
        """Take the server's part in a TLS handshake."""
        wrapped = tls.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock = wrapped
        while True:
            try:
                return wrapped.do_handshake()
            except ssl.SSLWantReadError:
                self._wait(False)
            except ssl.SSLWantWriteError:
                self._wait(True)

    def peer(self) -> str:
        """The client's address."""
        return str(self._sock.getpeername()[0])

    def read(self, size: int) -> bytes:
        """Exactly this many bytes."""
        while len(self._read) < size:
            self._fill()
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def line(self) -> bytes:
        """A line without its end."""
        while b"\n" not in self._read:
            self._fill()
        return self.read(self._read.index(b"\n") + 1).rstrip(b"\r\n")

    def send(self, content: bytes) -> None:
        """Everything, in pieces if so asked."""
        with self._sending:
            at = 0
            while at < len(content):
                size = self._chance.randint(1, self._segment) if self._segment else len(content) - at
                at += self._send(memoryview(content)[at : at + size])

    def close(self) -> None:
        """End the connection in order; wakes the threads that use it."""
        self.closing.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the connection with RST, as soon as the reading thread lets go of it."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The reading half is shut without a packet; shutting both would send FIN.
            socket.socket.shutdown(self._sock, socket.SHUT_RD)
        self.closing.set()

    def release(self) -> None:
        """Give the socket back; for the reading thread, when no other uses it any more."""
        self.closing.set()
        self._sock.close()

    def stall(self, seconds: float | None = None) -> None:
        """Do nothing for a time or until the connection is closed from this side."""
        if self.closing.wait(seconds):
            raise GoneError

    def _fill(self) -> None:
        while True:
            try:
                with self._use:
                    got = self._sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(False)
            except ssl.SSLWantWriteError:
                self._wait(True)
            else:
                if not got:
                    raise GoneError
                self._read += got
                return

    def _send(self, content: memoryview) -> int:
        while True:
            try:
                with self._use:
                    return self._sock.send(content)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(True)
            except ssl.SSLWantReadError:
                self._wait(False)

    def _wait(self, writable: bool) -> None:
        if self.closing.is_set():
            raise GoneError
        sides = ([], [self._sock]) if writable else ([self._sock], [])
        select.select(*sides, [], _POLL_S)


def read_request(wire: Wire, first: bytes, connection: int) -> Request | bytes:
    """The request that begins with this byte; an answer to one of ours comes as its bytes."""
    line = first + wire.line()
    while not line.strip():
        line = wire.line()
    headers: dict[str, str] = {}
    raw = [line]
    while field_line := wire.line():
        raw.append(field_line)
        name, _, value = field_line.decode("utf-8", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = wire.read(int(headers.get("content-length", "0")))
    if line.startswith(b"RTSP/"):
        return b"\r\n".join(raw) + b"\r\n\r\n" + body
    method, _, rest = line.decode("utf-8", "replace").partition(" ")
    url = rest.rpartition(" ")[0]
    return Request(method, url, headers, body, time.monotonic_ns(), connection)
