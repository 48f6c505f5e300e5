"""How a camera's packets travel: interleaved in the RTSP connection, or over UDP."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.support.camera_options import Faults
from tests.support.camera_wire import Wire

RTP_HEAD = 12


class Interleaver:
    """Frames of all tracks on the RTSP connection (RFC 2326, 10.12)."""

    def __init__(self, wire: Wire, faults: Faults) -> None:
        self._wire = wire
        self._faults = faults
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._count = 0

    def frame(self, channel: int, packet: bytes) -> None:
        """Send a frame, or keep it until `coalesce` have come together."""
        faults = self._faults
        with self._lock:
            index, self._count = self._count, self._count + 1
            if faults.garbage and index % faults.garbage_every == 0:
                self._held.append(faults.garbage)
            self._held.append(_framed(channel, packet, faults.frame_size, index))
            if index % faults.coalesce == faults.coalesce - 1:
                self._write()

    def flush(self) -> None:
        """Send what is kept."""
        with self._lock:
            self._write()

    def half(self, channel: int, packet: bytes) -> None:
        """Send the first half of a frame."""
        with self._lock:
            self._held.append(_framed(channel, packet, None, 0)[: 4 + len(packet) // 2])
            self._write()

    def _write(self) -> None:
        if self._held:
            content = b"".join(self._held)
            self._held.clear()
            self._wire.send(content)


def _framed(channel: int, packet: bytes, size_of: Callable[[int, int], int] | None, index: int) -> bytes:
    size = len(packet) if size_of is None else size_of(index, len(packet))
    return b"$" + bytes([channel]) + (size & 0xFFFF).to_bytes(2, "big") + packet


class Carrier(Protocol):
    """How the packets of one track travel."""

    def rtp(self, packet: bytes) -> None: ...

    def rtcp(self, packet: bytes) -> None: ...


@dataclass(frozen=True)
class OverTcp:
    """Two interleaved channels."""

    interleaver: Interleaver
    channels: tuple[int, int]

    def rtp(self, packet: bytes) -> None:
        self.interleaver.frame(self.channels[0], packet)

    def rtcp(self, packet: bytes) -> None:
        self.interleaver.frame(self.channels[1], packet)


class OverUdp:
    """A pair of sockets of our own, toward a pair of ports of the client; RTCP from there is recorded."""

    def __init__(self, address: str, ports: tuple[int, int], blocked: bool) -> None:
        self._to = [(address, port) for port in ports]
        self._blocked = blocked
        self._sockets = _port_pair()
        self.ports = tuple(int(sock.getsockname()[1]) for sock in self._sockets)

    def rtp(self, packet: bytes) -> None:
        self._send(0, packet)

    def rtcp(self, packet: bytes) -> None:
        self._send(1, packet)

    def listen(self, closing: threading.Event, heard: Callable[[bytes], None]) -> None:
        """Hand over the RTCP packets that come, until closing."""
        while not closing.is_set():
            for sock in select.select(self._sockets, [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    packet = sock.recv(65536)
                    if sock is self._sockets[1]:
                        heard(packet)
        for sock in self._sockets:
            sock.close()

    def _send(self, side: int, packet: bytes) -> None:
        if not self._blocked:
            # A client that closed its port answers with ICMP, which is no reason to stop.
            with contextlib.suppress(ConnectionRefusedError):
                self._sockets[side].sendto(packet, self._to[side])


def _port_pair() -> list[socket.socket]:
    for _ in range(100):
        even = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        odd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            even.bind(("127.0.0.1", 0))
            if even.getsockname()[1] % 2 == 0:
                odd.bind(("127.0.0.1", even.getsockname()[1] + 1))
                return [even, odd]
        even.close()
        odd.close()
    raise OSError("no pair of UDP ports is free")


@dataclass
class Track:
    """One track of a session: where its packets go and what they are numbered with."""

    kind: str
    carrier: Carrier
    ssrc: int
    sequence: int
    offset: int
    url: str
    packets: int = 0
    octets: int = 0

    def send(self, packet: bytes) -> None:
        """One RTP packet, counted for the sender reports."""
        self.packets += 1
        self.octets += len(packet) - RTP_HEAD
        self.carrier.rtp(packet)


@dataclass
class Session:
    """What the requests of one connection set up."""

    name: str
    tracks: dict[str, Track] = field(default_factory=dict)
    alive: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
