"""UDP may change the order of packets: a missing one is waited for, a little."""

from __future__ import annotations

from streamd.sources.rtsp.rtp import Packet

HOLD_NS = 60_000_000
"""How long packets wait for a missing one; networks that reorder do so within a few milliseconds."""

_MOST = 256


class Reorderer:
    """Gives packets in the order of their sequence numbers. Only a gap costs time, at most HOLD_NS."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, Packet] = {}

    def push(self, packet: Packet) -> list[Packet]:
        """What can be given now. A late packet comes at once: whoever counts the sequence passes it over."""
        if self._next is None or packet.sequence == self._next:
            self._next = packet.sequence + 1 & 0xFFFF
            return [packet, *self._following()]
        if (packet.sequence - self._next) & 0xFFFF >= 0x8000:
            return [packet]
        self._held.setdefault(packet.sequence, packet)
        return self._release() if len(self._held) > _MOST else []

    def overdue(self, now_ns: int) -> list[Packet]:
        """What has waited long enough: the missing one is lost."""
        ready: list[Packet] = []
        while self._held and now_ns - min(packet.arrival.ns for packet in self._held.values()) > HOLD_NS:
            ready += self._release()
        return ready

    def flush(self) -> list[Packet]:
        """All that is left: what is missing comes no more."""
        ready: list[Packet] = []
        while self._held:
            ready += self._release()
        return ready

    def _release(self) -> list[Packet]:
        assert self._next is not None
        start = self._next
        first = min(self._held, key=lambda sequence: (sequence - start) & 0xFFFF)
        self._next = first
        return self._following()

    def _following(self) -> list[Packet]:
        ready = []
        while self._next is not None and (packet := self._held.pop(self._next, None)) is not None:
            ready.append(packet)
            self._next = self._next + 1 & 0xFFFF
        return ready
