"""Whether a file was there to its end, judged from what was read and from what its container declares."""

from __future__ import annotations

from dataclasses import dataclass

from streamd.core.errors import Reason

# Containers whose header states a length that was written by whoever made the file. The length of others
# (transport streams, raw streams) is libav's estimate from the very bytes that may be cut.
_DECLARING = ("mov", "matroska", "avi", "flv", "asf", "mxf", "nut", "y4m")


@dataclass(slots=True)
class Ending:
    """What is known of a file's end, kept while it is read.

    declared_s: length of the video stream as its container states it; None when it does not.
    interval_s: announced time between two pictures, for the tolerance; None when unknown.
    """

    declared_s: float | None
    interval_s: float | None
    first_s: float | None = None
    last_s: float | None = None
    """Smallest start and largest end of a packet, in seconds of media time."""
    read_error: str | None = None
    """The first error of reading, in libav's words, and where it came."""
    last_damaged: bool = False
    """Whether the newest packet was marked as damaged, could not be decoded, or made a damaged picture."""

    def packet(self, start_s: float | None, duration_s: float, damaged: bool) -> None:
        """Take note of one packet of the video stream; called in the order of reading."""
        self.last_damaged = damaged
        if start_s is not None:
            end_s = start_s + duration_s
            if self.first_s is None or start_s < self.first_s:
                self.first_s = start_s
            if self.last_s is None or end_s > self.last_s:
                self.last_s = end_s

    def fault(self) -> tuple[Reason, str] | None:
        """Why the input is incomplete, as reason and words; None when nothing says so.

        Incomplete is: a read error, a damaged last picture, or an end that comes before the declared one by
        more than two pictures and 2 % (at least 0.2 s). A transport stream or a raw stream cut between two
        pictures cannot be told from a whole one.
        """
        if self.read_error is not None:
            return Reason.CORRUPT, f"it could not be read to its end ({self.read_error})"
        if self.last_damaged:
            return Reason.CORRUPT, "its last picture is damaged"
        if self.declared_s is None or self.last_s is None or self.first_s is None:
            return None
        # Some containers count from the first picture, some from zero: the later end is believed.
        reached_s = max(self.last_s, self.last_s - self.first_s)
        missing_s = self.declared_s - reached_s
        if missing_s > max(2 * (self.interval_s or 0.0), 0.02 * self.declared_s, 0.2):
            return Reason.EOF, f"it ends {missing_s:.2f} s before its declared {self.declared_s:.2f} s"
        return None


def declares_length(format_name: str) -> bool:
    """Whether containers of this format (libav's name, may list several) state their own length."""
    return any(name in _DECLARING for name in format_name.split(",")) or format_name == "yuv4mpegpipe"


def jpeg_is_whole(data: bytes) -> bool:
    """Whether a JPEG picture goes on to its end marker, whatever follows it.

    libav's decoder fills what is missing with grey and does not say so.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        # Segments (thumbnails among them) state their length; fill bytes do not count.
        at += 1 if data[at + 1 : at + 2] == b"\xff" else 2 + int.from_bytes(data[at + 2 : at + 4])
    # In the scan itself 0xff is only ever followed by 0x00 or a restart marker.
    return data.find(b"\xff\xd9", at) >= 0


def is_short(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` (200 bytes or more) cannot be whole.

    libav ends such files in silence: a Matroska or WebM file shorter than its header says, a transport stream
    that begins with a packet and ends within one.
    """
    for packet, sync in ((188, 0), (192, 4)):
        if head[sync : sync + 1] == head[sync + packet : sync + packet + 1] == b"G":
            return size % packet != 0
    end = _matroska_end(head)
    return end is not None and size < end


def _matroska_end(head: bytes) -> int | None:
    """Where the segment of a Matroska file ends; None when it is none, or does not say.

    Sizes are RFC 8794's: the leading zero bits of the first byte count the bytes that follow it; all ones
    mean unknown.
    """
    at, content = 0, 0
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # the EBML header, then the segment
        at += content
        if head[at : at + 4] != identifier or not head[at + 4 : at + 5].strip(b"\0"):
            return None
        length = 9 - head[at + 4].bit_length()
        mask = (1 << (7 * length)) - 1
        content = int.from_bytes(head[at + 4 : at + 4 + length]) & mask
        at += 4 + length
        if content == mask:
            return None
    return at + content
