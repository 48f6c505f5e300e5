"""RTP packets (RFC 3550): reading them, what is missing between them, and their clock."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from streamd.sources.libav.planes import Arrival

_FIXED = struct.Struct("!BBHII")
_RESTART = 3000
"""A jump of more sequence numbers than this is a new beginning, not a loss (RFC 3550, A.1: MAX_DROPOUT)."""


class Packet(NamedTuple):
    """One RTP packet. `timestamp` is in units of the track's clock rate, 32 bits."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    arrival: Arrival


def parse(data: bytes, arrival: Arrival) -> Packet | None:
    """None for what is no RTP packet."""
    size = len(data)
    if size < 12:
        return None
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(data)
    if first == 0x80:  # no padding, no extension, no other sources: nearly all packets
        return Packet(second & 0x7F, second > 127, sequence, timestamp, ssrc, data[12:], arrival)
    if first >> 6 != 2:
        return None
    start, end = 12 + 4 * (first & 15), size
    if first & 0x10:
        if size < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    if first & 0x20:
        end -= data[-1]
    if start > end or (first & 0x20 and data[-1] == 0):
        return None
    return Packet(second & 0x7F, second > 127, sequence, timestamp, ssrc, data[start:end], arrival)


@dataclass(slots=True)
class Reception:
    """The sequence of one sender's packets, and the statistics of RFC 3550, A.1, A.3 and A.8."""

    clock_rate: int
    ssrc: int | None = None
    base: int = 0
    highest: int = 0
    """Extended: with the number of wraps in the upper bits."""
    received: int = 0
    jitter: float = 0.0
    _next: int = -1
    _timestamp: int = -1
    _newest: int = -1
    _transit: float | None = None
    _told_expected: int = 0
    _told_received: int = 0

    def gap(self, packet: Packet) -> int | None:
        """Packets missing before this one; None for a late packet or a copy, which is to be passed over."""
        if packet.sequence == self._next and packet.ssrc == self.ssrc:
            self._next = packet.sequence + 1 & 0xFFFF
            self.highest += 1
            self.received += 1
            if packet.timestamp != self._timestamp:
                self._measure_jitter(packet)
            return 0
        if self.ssrc != packet.ssrc:
            fresh = self.ssrc is None
            self._begin(packet)
            return 0 if fresh else 1
        step = (packet.sequence - self.highest) & 0xFFFF
        if step == 0 or step > 0x10000 - _RESTART:
            # Late packets are of pictures already seen; a sender that began anew sends new ones.
            if not 0 < (packet.timestamp - self._newest) & 0xFFFFFFFF < 0x80000000:
                return None
            step = _RESTART
        if step >= _RESTART:
            self._begin(packet)
            return 1
        self._next = packet.sequence + 1 & 0xFFFF
        self.highest += step
        self.received += 1
        self._measure_jitter(packet)
        return step - 1

    def report(self) -> tuple[int, int, int, int]:
        """(fraction lost of 256 since the last report, packets lost in all, highest, jitter)."""
        expected = self.highest - self.base + 1
        lost = max(min(expected - self.received, 0x7FFFFF), 0)
        since = expected - self._told_expected
        missing = since - (self.received - self._told_received)
        self._told_expected, self._told_received = expected, self.received
        fraction = min(255, 256 * missing // since) if since > 0 and missing > 0 else 0
        return fraction, lost, self.highest & 0xFFFFFFFF, int(self.jitter)

    def _begin(self, packet: Packet) -> None:
        self.ssrc = packet.ssrc
        self.base = self.highest = packet.sequence
        self._next = packet.sequence + 1 & 0xFFFF
        self.received, self._told_expected, self._told_received = 1, 0, 0
        self.jitter, self._transit = 0.0, None
        self._newest = packet.timestamp
        self._measure_jitter(packet)

    def _measure_jitter(self, packet: Packet) -> None:
        """RFC 3550, A.8, over the first packet of each picture: the others share its timestamp."""
        self._timestamp = packet.timestamp
        if (packet.timestamp - self._newest) & 0xFFFFFFFF < 0x80000000:
            self._newest = packet.timestamp
        transit = packet.arrival.ns * self.clock_rate / 1e9 - packet.timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit)
            if difference < 0x7FFFFFFF:  # not across a wrap of the timestamp
                self.jitter += (difference - self.jitter) / 16
        self._transit = transit


class Timeline:
    """RTP timestamps without wraps, and what they mean: media seconds, and the camera's wall time."""

    def __init__(self, clock_rate: int) -> None:
        self._rate = clock_rate
        self._first: int | None = None
        self._newest = 0
        self._report: tuple[int, int] | None = None  # timestamp without wraps, microseconds since 1970

    def unwrapped(self, timestamp: int) -> int:
        """The timestamp with its wraps, counted from near the newest one; it may fall."""
        if self._first is None and self._report is None:
            self._newest = timestamp
        step = (timestamp - self._newest + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self._newest += step
        if self._first is None:
            self._first = self._newest
        return self._newest

    def pts(self, unwrapped: int) -> float:
        """Seconds since the first packet, to the microsecond."""
        return round((unwrapped - (self._first or 0)) / self._rate, 6)

    def reported(self, timestamp: int, at_us: int) -> None:
        """A sender report: this timestamp was sampled at this wall time of the camera. It may precede all packets."""
        if self._first is None:
            self._newest = timestamp
        step = (timestamp - self._newest + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self._report = (self._newest + step, at_us)

    def restarted(self) -> None:
        """The sender began anew: the last report's clock is no longer that of the packets."""
        self._report = None

    def captured_us(self, unwrapped: int) -> int | None:
        """The camera's wall time, microseconds since 1970; None before the first sender report."""
        if self._report is None:
            return None
        timestamp, at_us = self._report
        return at_us + (unwrapped - timestamp) * 1_000_000 // self._rate
