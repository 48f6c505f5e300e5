"""RTP payloads of H.264 (RFC 6184) and H.265 (RFC 7798) become NAL units."""

from __future__ import annotations

from typing import Protocol

from streamd.sources.rtsp.nal import INFORMATION, PICTURE, START_CODE, Codec


class Unit(Protocol):
    """What NAL units are written into; see `units.AccessUnit`."""

    data: bytearray
    roles: int
    damaged: bool
    recovery: int | None


class Depacketiser:
    """Writes the NAL units of one track's payloads. Keeps whether a fragmented one is open."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._fragment = False
        self._ends = False
        first = codec.header == 1
        self._single = range(1, 24) if first else range(48)
        self._aggregate, self._fragmented = (24, 28) if first else (48, 49)

    def push(self, payload: bytes, unit: Unit) -> None:
        """Write what is in the payload; what makes no sense marks the unit as damaged."""
        header = self.codec.header
        if len(payload) <= header:
            unit.damaged = True
            return
        kind = self.codec.kinds[payload[0]]
        if kind == self._fragmented:
            flags = payload[header]
            if flags < 0x40 and self._fragment:  # neither the first nor the last: most of all packets
                unit.data += payload[header + 1 :]
            else:
                self._push_fragment(payload, unit)
            return
        self._fragment = False
        if kind in self._single:
            self._write(payload, unit)
        elif kind == self._aggregate:
            self._push_aggregate(payload, unit)
        elif header == 1 and kind in (25, 26, 27, 29):
            unit.damaged = True  # interleaved mode, which was not agreed on
        # Others (PACI, reserved types) carry nothing that a picture needs.

    def begins_picture(self, payload: bytes) -> bool:
        """Whether a new picture begins with this payload: its first slice, or what comes before one."""
        codec = self.codec
        if len(payload) <= codec.header:
            return False
        kind = codec.kinds[payload[0]]
        if kind == self._fragmented:
            start = payload[codec.header] & 0x80
            if not start:
                return False
            begin = codec.header + 1
            whole = bytes(codec.header) + payload[begin : begin + 2]
            return codec.first_slice(whole) if self._is_slice(self._rebuilt(payload)[0]) else True
        if kind == self._aggregate:
            first = payload[codec.header + 2 : codec.header + 8]
            return bool(first) and (not self._is_slice(first[0]) or codec.first_slice(first))
        return not self._is_slice(payload[0]) or codec.first_slice(payload)

    @property
    def unfinished(self) -> bool:
        """Whether more of a fragment has to come, from a camera that marks the last one."""
        return self._fragment and self._ends

    def interrupt(self) -> None:
        """No more of an open fragment will come.

        Without a gap in the sequence nothing was lost: cameras exist that never mark a fragment as the last.
        """
        self._fragment = False

    def _is_slice(self, first: int) -> bool:
        return bool(self.codec.roles[first] & PICTURE)

    def _write(self, nal: bytes, unit: Unit) -> None:
        self._note(nal, unit)
        unit.data += START_CODE
        unit.data += nal

    def _note(self, nal: bytes, unit: Unit) -> None:
        role = self.codec.roles[nal[0]]
        unit.roles |= role
        if role == INFORMATION and unit.recovery is None:
            unit.recovery = self.codec.recovery(nal)

    def _push_fragment(self, payload: bytes, unit: Unit) -> None:
        header = self.codec.header
        flags = payload[header]
        if flags & 0x80:
            nal = self._rebuilt(payload)
            self._note(nal, unit)
            unit.data += START_CODE
            unit.data += nal
            self._fragment = True
        elif not self._fragment:
            # What remains of a picture is one: else the next picture would count as its rest, and be damaged too.
            unit.roles |= self.codec.roles[self._rebuilt(payload)[0]]
            unit.damaged = True
            return
        unit.data += payload[header + 1 :]
        if flags & 0x40:
            self._fragment, self._ends = False, True

    def _rebuilt(self, payload: bytes) -> bytes:
        """The header of a fragmented NAL unit."""
        if self.codec.header == 1:
            return bytes([payload[0] & 0xE0 | payload[1] & 0x1F])
        return bytes([payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]])

    def _push_aggregate(self, payload: bytes, unit: Unit) -> None:
        at = self.codec.header
        while at + 2 <= len(payload):
            size = payload[at] << 8 | payload[at + 1]
            at += 2
            if size <= self.codec.header or at + size > len(payload):
                unit.damaged = True
                return
            self._write(payload[at : at + size], unit)
            at += size
        if at != len(payload):
            unit.damaged = True
