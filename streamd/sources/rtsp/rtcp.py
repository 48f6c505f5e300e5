"""RTCP (RFC 3550): sender reports are read, receiver reports are written."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from streamd.sources.rtsp.rtp import Reception

_SENDER, _RECEIVER, _DESCRIPTION, _BYE = 200, 201, 202, 203
_SINCE_1900_S = 2_208_988_800
_OLDEST_US = 946_684_800_000_000
"""The year 2000: a camera whose clock shows less has none."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """When the sender sampled `timestamp`.

    at_us: its wall time, microseconds since 1970; None if it has no clock. ntp_middle: goes into our report.
    """

    ssrc: int
    at_us: int | None
    timestamp: int
    ntp_middle: int


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender ends."""

    ssrc: int


def parse(data: bytes) -> list[SenderReport | Bye]:
    """The reports of a compound packet; what is cut or unknown is passed over."""
    found: list[SenderReport | Bye] = []
    start = 0
    while start + 8 <= len(data):
        first, kind, words, ssrc = struct.unpack_from("!BBHI", data, start)
        end = start + 4 * (words + 1)
        if first >> 6 != 2 or end > len(data):
            break
        if kind == _SENDER and end - start >= 28:
            seconds, fraction, timestamp = struct.unpack_from("!III", data, start + 8)
            at_us = (seconds - _SINCE_1900_S) * 1_000_000 + (fraction * 1_000_000 >> 32)
            middle = (seconds & 0xFFFF) << 16 | fraction >> 16
            found.append(SenderReport(ssrc, at_us if at_us >= _OLDEST_US else None, timestamp, middle))
        elif kind == _BYE and first & 31:
            found.append(Bye(ssrc))
        start = end
    return found


def receiver_report(ours: int, name: str, reception: Reception, ntp_middle: int, delay_s: float) -> bytes:
    """A receiver report with our name.

    ours: our SSRC. ntp_middle, delay_s: of the last sender report, and how long ago it came; 0 and 0 for none.
    """
    if reception.ssrc is None:
        report = struct.pack("!BBHI", 0x80, _RECEIVER, 1, ours)
    else:
        fraction, lost, highest, jitter = reception.report()
        report = struct.pack(
            "!BBHIIIIIII",
            0x81,
            _RECEIVER,
            7,
            ours,
            reception.ssrc,
            fraction << 24 | lost,
            highest,
            jitter & 0xFFFFFFFF,
            ntp_middle,
            min(int(delay_s * 65536), 0xFFFFFFFF) if ntp_middle else 0,
        )
    item = b"\x01" + bytes([len(name)]) + name.encode()
    item += bytes(4 - len(item) % 4)
    return report + struct.pack("!BBHI", 0x81, _DESCRIPTION, 1 + len(item) // 4, ours) + item
