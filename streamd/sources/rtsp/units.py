"""RTP packets become access units: all NAL units of one picture (RFC 6184, RFC 7798).

A picture is whole at the packet with the marker bit, or when the next one begins. Some cameras set the bit
wrongly: so it has to prove itself on the first picture of several packets, and is no more trusted once the
same picture goes on after it. Without it a picture comes when the next one begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamd.sources.libav.planes import Arrival
from streamd.sources.rtsp.depacketise import Depacketiser
from streamd.sources.rtsp.nal import PICTURE, START
from streamd.sources.rtsp.rtp import Packet

_PATIENCE = 10
"""Pictures of one packet each, after which a marker bit that was always right is believed."""

MOST_BYTES = 32 * 1024 * 1024
"""Of one access unit; what is larger is not a picture of any camera."""


@dataclass(slots=True)
class AccessUnit:
    """The NAL units of one picture, Annex B, as they are given to a decoder.

    roles: what is in it, bits of `nal`. damaged: something of it, or just before it, is missing. arrival: of its
    last packet. recovery: pictures until the picture is right again, from a recovery point SEI; None without one.
    """

    timestamp: int
    arrival: Arrival
    data: bytearray = field(default_factory=bytearray)
    roles: int = 0
    damaged: bool = False
    recovery: int | None = None
    packets: int = 0
    markers: int = 0
    marked: bool = False
    """Whether its newest packet had the marker bit."""

    @property
    def begins(self) -> bool:
        """Whether decoding can begin with it: it is whole, and a random access point."""
        return not self.damaged and (bool(self.roles & START) or self.recovery == 0)


class Assembler:
    """Puts access units together. Give it packets in order, one by one."""

    def __init__(self, depacketiser: Depacketiser) -> None:
        self._depacketiser = depacketiser
        self._open: AccessUnit | None = None
        self._before: AccessUnit | None = None  # parameter sets that came alone: the next picture's beginning
        self._closed_timestamp: int | None = None
        self._marker_is_right: bool | None = None
        self._single = 0
        self._lost = False

    def push(self, packet: Packet, lost: bool) -> list[AccessUnit]:
        """The units that this packet completes. lost: packets are missing just before it."""
        ready: list[AccessUnit] = []
        unit = self._open
        if lost or unit is None or unit.marked or unit.timestamp != packet.timestamp:
            unit = self._unit_for(packet, lost, ready)
        unit.arrival = packet.arrival
        unit.packets += 1
        self._depacketiser.push(packet.payload, unit)
        if packet.marker:
            unit.markers += 1
            unit.marked = True
            # The bit also comes with parameter sets alone: these are the beginning of the next picture.
            # And no picture ends in the middle of a NAL unit.
            if self._marker_is_right and unit.roles & PICTURE and not self._depacketiser.unfinished:
                self._finish(unit, ready)
        elif len(unit.data) > MOST_BYTES:
            unit.data.clear()
            unit.damaged = True
        return ready

    def _unit_for(self, packet: Packet, lost: bool, ready: list[AccessUnit]) -> AccessUnit:
        """The open unit if the packet belongs to it, else a new one; the one before goes to `ready`."""
        unit = self._open
        if lost:
            self._depacketiser.interrupt()
            if unit is not None:
                unit.damaged = True
        if unit is None:
            if packet.timestamp == self._closed_timestamp:
                self._goes_on(packet)
            return self._begin(packet, lost)
        if unit.timestamp != packet.timestamp:
            self._finish(unit, ready)
            return self._begin(packet, lost)
        if unit.roles & PICTURE and unit.marked and self._depacketiser.begins_picture(packet.payload):
            # Two pictures with one timestamp, told apart by the marker bit and by their first slices.
            self._finish(unit, ready)
            return self._begin(packet, lost)
        unit.marked = False
        return unit

    def flush(self) -> list[AccessUnit]:
        """What is left at the end of the stream: its last picture, perhaps not whole."""
        ready: list[AccessUnit] = []
        if self._open is not None:
            self._open.damaged |= not self._open.marked
            self._finish(self._open, ready)
        return ready

    def restart(self) -> None:
        """The sender began anew: what is open is not whole."""
        if self._open is not None:
            self._open.damaged = True
        self._closed_timestamp = None

    def _begin(self, packet: Packet, lost: bool) -> AccessUnit:
        unit = AccessUnit(packet.timestamp, packet.arrival, damaged=self._lost or lost)
        if self._before is not None:
            unit.data, unit.roles, unit.recovery = (
                self._before.data,
                self._before.roles,
                self._before.recovery,
            )
        self._open, self._before, self._lost = unit, None, False
        return unit

    def _finish(self, unit: AccessUnit, ready: list[AccessUnit]) -> None:
        self._depacketiser.interrupt()
        if self._marker_is_right is None:
            self._judge_marker(unit)
        self._open = None
        if unit.roles & PICTURE:
            self._closed_timestamp = unit.timestamp
            ready.append(unit)
        else:
            self._before, self._lost = unit, unit.damaged

    def _judge_marker(self, unit: AccessUnit) -> None:
        if unit.damaged or not unit.roles & PICTURE:
            return
        right = unit.marked and unit.markers == 1
        self._single += 1
        if not right and (unit.packets > 1 or not unit.marked):
            self._marker_is_right = False
        elif unit.packets > 1 or self._single >= _PATIENCE:
            self._marker_is_right = right

    def _goes_on(self, packet: Packet) -> None:
        """A packet of the picture that the marker bit ended: the bit is not to be believed."""
        if self._depacketiser.begins_picture(packet.payload):
            return
        self._marker_is_right = False
        self._lost = True
