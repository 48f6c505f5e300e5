"""What the NAL units of H.264 and H.265 are, as far as a reader has to know: the rules of each codec in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

START_CODE = b"\x00\x00\x00\x01"

# The roles of NAL units for a picture: bits, so that a unit's roles are one number. Plain numbers, since an Enum
# is hashed in Python, for every packet.


SLICE = 1
"""Part of a picture that needs earlier ones."""

INSTANT = 2
"""Part of an IDR (or BLA) picture: decoding can begin here, and nothing before it is referred to later."""

OPEN = 4
"""Part of a CRA picture: decoding can begin here; pictures shown before it may need earlier ones."""

PARAMETERS = 8
INFORMATION = 16
"""SEI; may announce a recovery point."""

OTHER = 0

PICTURE = SLICE | INSTANT | OPEN
START = INSTANT | OPEN


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec's NAL units.

    name: libav's. header: bytes of a NAL unit's header. kinds and roles: its type and its role, by its first byte.
    first_slice: whether a slice (header included) is the first of its picture. recovery: the number of pictures after
    which an SEI unit promises a correct one, None when it promises nothing.
    """

    name: str
    header: int
    kinds: bytes
    roles: bytes
    first_slice: Callable[[bytes], bool]
    recovery: Callable[[bytes], int | None]


def _h264_recovery(unit: bytes) -> int | None:
    """recovery_frame_cnt of a recovery point SEI (H.264, D.1.8: payload type 6)."""
    data = unit.replace(b"\x00\x00\x03", b"\x00\x00")  # emulation prevention
    at = 1
    while at + 2 <= len(data) and data[at] != 0x80:
        kind = size = 0
        while at < len(data) and data[at] == 255:
            kind, at = kind + 255, at + 1
        kind, at = kind + (data[at] if at < len(data) else 0), at + 1
        while at < len(data) and data[at] == 255:
            size, at = size + 255, at + 1
        size, at = size + (data[at] if at < len(data) else 0), at + 1
        if kind == 6:
            return _exp_golomb(data[at : at + size])
        at += size
    return None


def _exp_golomb(data: bytes) -> int | None:
    """The ue(v) that `data` begins with (H.264, 9.1)."""
    bits = int.from_bytes(data[:8].ljust(8, b"\x00"))
    zeros = 64 - bits.bit_length()
    if zeros > 16:
        return None
    return (bits >> (63 - 2 * zeros)) - 1


def _roles(kinds: bytes, roles: dict[int, int]) -> bytes:
    return bytes(roles.get(kind, OTHER) for kind in kinds)


_H264_KINDS = bytes(first & 31 for first in range(256))
_H265_KINDS = bytes(first >> 1 & 63 for first in range(256))

H264 = Codec(
    name="h264",
    header=1,
    kinds=_H264_KINDS,
    roles=_roles(
        _H264_KINDS,
        {
            **dict.fromkeys(range(1, 5), SLICE),
            5: INSTANT,
            6: INFORMATION,
            **dict.fromkeys((7, 8, 13, 15), PARAMETERS),
        },
    ),
    # first_mb_in_slice is 0: the bit 1, the first behind the header.
    first_slice=lambda unit: len(unit) > 1 and unit[1] > 127,
    recovery=_h264_recovery,
)

H265 = Codec(
    name="hevc",
    header=2,
    kinds=_H265_KINDS,
    roles=_roles(
        _H265_KINDS,
        {
            **dict.fromkeys(range(16), SLICE),
            **dict.fromkeys(range(16, 21), INSTANT),
            21: OPEN,
            **dict.fromkeys((32, 33, 34), PARAMETERS),
            **dict.fromkeys((39, 40), INFORMATION),
        },
    ),
    first_slice=lambda unit: len(unit) > 2 and unit[2] > 127,
    recovery=lambda unit: None,
)

CODECS = {"H264": H264, "H265": H265}
"""By the name in the description's rtpmap."""
