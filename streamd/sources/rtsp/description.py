"""The description of a stream (SDP, RFC 8866), as real cameras write it: read leniently."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

_STATIC = {26: "JPEG", 31: "H261", 32: "MPV", 33: "MP2T", 34: "H263"}
_MOST_LINES = 4096


@dataclass(slots=True)
class Track:
    """One media section. `codec`: upper case as in rtpmap, "" when nothing names it."""

    kind: str
    payload_types: tuple[int, ...]
    codec: str = ""
    payload_type: int = -1
    clock_rate: int = 90000
    control: str = ""
    formats: dict[str, str] = field(default_factory=dict)
    rate: float | None = None
    secure: bool = False
    """Whether it is SRTP."""

    @property
    def parameter_sets(self) -> list[bytes]:
        """The NAL units of `sprop-...`: VPS, SPS, PPS in the order they must be given to a decoder."""
        names = ("sprop-parameter-sets",) if self.codec == "H264" else ("sprop-vps", "sprop-sps", "sprop-pps")
        units = []
        for name in names:
            for part in self.formats.get(name, "").split(","):
                try:
                    unit = base64.b64decode(part.strip() + "=" * (-len(part.strip()) % 4))
                except (binascii.Error, ValueError):
                    continue  # they mostly come in the stream as well
                if unit:
                    units.append(unit)
        return units


@dataclass(slots=True)
class Description:
    """A whole description: the session's own control address, and its tracks in order."""

    control: str = ""
    tracks: list[Track] = field(default_factory=list)

    @property
    def videos(self) -> list[Track]:
        """The tracks that carry pictures."""
        return [track for track in self.tracks if track.kind == "video"]


def read(body: bytes) -> Description:
    """Never fails: what cannot be understood is passed over, up to a description without tracks."""
    result = Description()
    track: Track | None = None
    for line in body.decode("utf-8", "replace").splitlines()[:_MOST_LINES]:
        kind, equals, value = line.strip().partition("=")
        if not equals:
            continue
        if kind.strip() == "m":
            track = _media(value.strip())
            result.tracks.append(track)
        elif kind.strip() == "a":
            name, _, text = value.strip().partition(":")
            if track is None:
                if name.lower() == "control":
                    result.control = text.strip()
            else:
                _attribute(track, name.strip().lower(), text.strip())
    return result


def _media(value: str) -> Track:
    words = value.split()
    types = tuple(int(word) for word in words[3:] if word.isdecimal() and len(word) < 4)
    track = Track(words[0].lower() if words else "", types)
    track.secure = len(words) > 2 and "SAVP" in words[2].upper()
    if types:
        track.payload_type = types[0]
        track.codec = _STATIC.get(types[0], "")
    return track


def _attribute(track: Track, name: str, text: str) -> None:
    if name == "control":
        track.control = text
    elif name == "rtpmap":
        match = re.match(r"(\d{1,3})\s+([^/\s]+)(?:/(\d{1,9}))?", text)
        # Of several payload types the first one is used; some cameras forget it in the m= line.
        if match and (not track.payload_types or int(match[1]) == track.payload_types[0]):
            track.payload_type = int(match[1])
            track.codec = {"HEVC": "H265"}.get(match[2].upper(), match[2].upper())
            track.clock_rate = int(match[3] or 0) or 90000
    elif name == "fmtp":
        number, _, rest = text.partition(" ")
        if (number.isdecimal() and int(number) == track.payload_type) or not number.isdecimal():
            for part in (rest if number.isdecimal() else text).split(";"):
                key, _, value = part.strip().partition("=")
                if key:
                    track.formats[key.strip().lower()] = value.strip()
    elif name in ("framerate", "x-framerate"):
        rate = re.match(r"\d{1,4}(?:\.\d{1,6})?", text)
        track.rate = (float(rate[0]) or None) if rate else None
