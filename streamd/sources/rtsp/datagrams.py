"""The two UDP sockets of a track: RTP on an even port, RTCP on the next."""

from __future__ import annotations

import contextlib
import random
import socket

_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel: two seconds of a 16 Mbit/s camera. It mostly grants less (net.core.rmem_max)."""

_SO_RCVBUFFORCE = 33
_MOST_AT_ONCE = 512
_TRIES = 100


class Datagrams:
    """Sockets bound to two neighbouring ports on `local`; only what `peer` sends is taken."""

    def __init__(self, family: int, local: str, peer: str) -> None:
        self.rtp, self.rtcp = _pair(family, local)
        self.port = int(self.rtp.getsockname()[1])
        self._peer = peer
        self._sources: tuple[str, ...] = (peer,)
        self._server_ports: tuple[int, int] | None = None

    def allow(self, sources: tuple[str, ...], server_ports: tuple[int, int] | None) -> None:
        """The server told where it sends from. Sends there first: firewalls let answers in."""
        self._sources = (self._peer, *sources)
        self._server_ports = server_ports
        if server_ports is not None:
            # An RTP packet without content, of payload type 0, which no server takes for a picture.
            self._send(self.rtp, b"\x80\x00" + bytes(10), server_ports[0])
            self._send(self.rtcp, b"\x80\xc9\x00\x01" + bytes(4), server_ports[1])

    def receive(self, rtp: list[bytes], rtcp: list[bytes]) -> None:
        """Add what has come to the lists, without waiting."""
        for file, packets in ((self.rtcp, rtcp), (self.rtp, rtp)):
            for _ in range(_MOST_AT_ONCE):
                try:
                    data, sender = file.recvfrom(65535)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an earlier datagram of ours was refused: nothing of theirs is lost
                if sender[0] in self._sources:
                    packets.append(data)

    def report(self, data: bytes) -> None:
        """Send an RTCP packet to the server, if it said where to."""
        if self._server_ports is not None:
            self._send(self.rtcp, data, self._server_ports[1])

    def close(self) -> None:
        """Close both sockets."""
        self.rtp.close()
        self.rtcp.close()

    def _send(self, file: socket.socket, data: bytes, port: int) -> None:
        with contextlib.suppress(OSError):  # reports are a courtesy
            file.sendto(data, (self._peer, port))


def _pair(family: int, local: str) -> tuple[socket.socket, socket.socket]:
    for _ in range(_TRIES):
        port = random.randrange(20000, 60000, 2)  # nosec B311  # only to be free
        pair: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                pair.append(socket.socket(family, socket.SOCK_DGRAM))
                pair[-1].bind((local, number))
        except OSError:
            for file in pair:
                file.close()
            continue
        for file in pair:
            file.setblocking(False)
        try:
            pair[0].setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except OSError:
            pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        return pair[0], pair[1]
    raise OSError("no two neighbouring UDP ports are free")
