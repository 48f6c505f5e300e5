"""Clips as access units, and RTP and RTCP packets made of them: RFC 3550, RFC 6184 (H.264), RFC 7798 (HEVC)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

CLOCK = 90_000
_PARAMETER_SETS = {"h264": (7, 8), "hevc": (32, 33, 34)}
_NTP_EPOCH_S = 2_208_988_800


@dataclass(frozen=True)
class AccessUnit:
    """One coded picture. `nals`: without start codes, in order; `pts`: seconds, the clip's first is 0."""

    nals: tuple[bytes, ...]
    pts: float
    keyframe: bool


@dataclass(frozen=True)
class Units:
    """A clip in decoding order. codec: "h264" or "hevc".

    parameter_sets: (VPS,) SPS and PPS; they are taken out of the units, others found there stay.
    """

    codec: str
    units: tuple[AccessUnit, ...]
    parameter_sets: tuple[bytes, ...]
    rate: float
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.units)


def units_of(path: Path | str) -> Units:
    """The access units of a clip's first video stream, whether length-prefixed (mp4, mkv) or Annex B."""
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        codec = stream.codec_context.name
        if codec not in _PARAMETER_SETS:
            raise ValueError(f"no RTP payload for {codec}")
        extra = bytes(stream.codec_context.extradata or b"")
        length, sets = _boxed_sets(codec, extra) if extra[:1] == b"\x01" else (0, _split(extra))
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        rows: list[tuple[list[bytes], float, bool]] = []
        for packet in clip.demux(stream):
            if packet.size:
                content = bytes(packet)
                nals = list(_unboxed(content, length)) if length else _split(content)
                pts = float(packet.pts * packet.time_base) if packet.pts is not None else len(rows) / rate
                rows.append((nals, pts, packet.is_keyframe))
        width, height = stream.width, stream.height
    sets = [nal for nal in sets if is_parameter_set(codec, nal)]
    sets = sets or [nal for nal in rows[0][0] if is_parameter_set(codec, nal)]
    first = min(pts for _, pts, _ in rows)
    units = tuple(
        AccessUnit(tuple(nal for nal in nals if nal not in sets), pts - first, keyframe)
        for nals, pts, keyframe in rows
    )
    return Units(codec, units, tuple(sets), rate, width, height)


def nal_type(codec: str, nal: bytes) -> int:
    """nal_unit_type of a NAL unit."""
    return nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63


def is_parameter_set(codec: str, nal: bytes) -> bool:
    """Whether a NAL unit is a VPS, SPS or PPS."""
    return nal_type(codec, nal) in _PARAMETER_SETS[codec]


def payloads(codec: str, nals: Sequence[bytes], limit: int, aggregate: bool = True) -> list[bytes]:
    """The RTP payloads of one access unit, each of at most `limit` bytes.

    Neighbours that fit together share a STAP-A or AP unless `aggregate` is off; what does not fit is cut
    into FU-A or FU.
    """
    out: list[bytes] = []
    waiting: list[bytes] = []
    head = 1 if codec == "h264" else 2

    def flush() -> None:
        if len(waiting) > 1:
            out.append(_aggregated(codec, waiting))
        else:
            out.extend(waiting)
        waiting.clear()

    for nal in nals:
        size = head + sum(2 + len(other) for other in waiting) + 2 + len(nal)
        if not aggregate or size > limit:
            flush()
        if len(nal) > limit:
            out.extend(_fragments(codec, nal, limit))
        else:
            waiting.append(nal)
    flush()
    return out


@dataclass(frozen=True)
class Dress:
    """What an RTP packet wears beside its payload: bytes of padding, a number of CSRCs, a header extension."""

    padding: int = 0
    csrcs: int = 0
    extension: bytes = b""


def rtp_packet(
    payload: bytes,
    *,
    marker: bool,
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    dress: Dress | None = None,
) -> bytes:
    """One RTP packet; sequence and timestamp wrap."""
    dress = dress or Dress()
    first = 0x80 | (bool(dress.padding) << 5) | (bool(dress.extension) << 4) | dress.csrcs
    parts = [
        struct.pack(
            ">BBHII",
            first,
            marker << 7 | payload_type,
            sequence & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            ssrc,
        ),
        b"".join(struct.pack(">I", 0xC0FFEE00 + index) for index in range(dress.csrcs)),
    ]
    if dress.extension:
        filled = dress.extension + bytes(-len(dress.extension) % 4)
        parts += [struct.pack(">HH", 0xBEDE, len(filled) // 4), filled]
    parts.append(payload)
    if dress.padding:
        parts.append(bytes(dress.padding - 1) + bytes([dress.padding]))
    return b"".join(parts)


def sender_report(ssrc: int, unix_s: float, timestamp: int, packets: int, octets: int) -> bytes:
    """A compound RTCP packet: SR and SDES with a CNAME."""
    seconds = int(unix_s)
    fraction = int((unix_s - seconds) * (1 << 32))
    report = struct.pack(
        ">BBHIIIIII",
        0x80,
        200,
        6,
        ssrc,
        (seconds + _NTP_EPOCH_S) & 0xFFFFFFFF,
        fraction,
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    item = b"\x01\x06camera" + b"\x00"
    item += bytes(-len(item) % 4)
    return report + struct.pack(">BBHI", 0x81, 202, 1 + len(item) // 4, ssrc) + item


def bye(ssrc: int) -> bytes:
    """A compound RTCP packet: an empty RR and BYE."""
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc) + struct.pack(">BBHI", 0x81, 203, 1, ssrc)


def _aggregated(codec: str, nals: list[bytes]) -> bytes:
    if codec == "h264":
        head = bytes([max(nal[0] & 0x60 for nal in nals) | 24])
    else:
        head = bytes([48 << 1, min(nal[1] & 7 for nal in nals)])
    return head + b"".join(struct.pack(">H", len(nal)) + nal for nal in nals)


def _fragments(codec: str, nal: bytes, limit: int) -> Iterator[bytes]:
    if codec == "h264":
        head, body = bytes([nal[0] & 0xE0 | 28]), nal[1:]
    else:
        head, body = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]), nal[2:]
    step = limit - len(head) - 1
    for start in range(0, len(body), step):
        flags = (start == 0) << 7 | (start + step >= len(body)) << 6
        yield head + bytes([flags | nal_type(codec, nal)]) + body[start : start + step]


def _split(content: bytes) -> list[bytes]:
    """Annex B: a NAL unit never ends in a zero, so zeros before a start code belong to it."""
    return [nal for nal in (part.rstrip(b"\0") for part in re.split(rb"\x00\x00\x01", content)) if nal]


def _unboxed(content: bytes, length: int) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + length], "big")
        yield content[at + length : at + length + size]
        at += length + size


def _boxed_sets(codec: str, extra: bytes) -> tuple[int, list[bytes]]:
    """The size of a length prefix and the parameter sets of an avcC or hvcC (ISO/IEC 14496-15)."""
    sets: list[bytes] = []

    def take(at: int, count: int) -> int:
        for _ in range(count):
            size = int.from_bytes(extra[at : at + 2], "big")
            sets.append(extra[at + 2 : at + 2 + size])
            at += 2 + size
        return at

    if codec == "h264":
        at = take(6, extra[5] & 31)
        take(at + 1, extra[at])
        return (extra[4] & 3) + 1, sets
    at = 23
    for _ in range(extra[22]):
        at = take(at + 3, int.from_bytes(extra[at + 1 : at + 3], "big"))
    return (extra[21] & 3) + 1, sets
