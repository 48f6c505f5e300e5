"""What changes in mid-stream and is worth an event: the pictures' size, and a clock that jumps."""

from __future__ import annotations

from typing import NamedTuple

from streamd.core.errors import Reason
from streamd.core.picture import Picture

_AHEAD_S = 5.0
"""How far a clock may run ahead of the arrival from one picture to the next."""

_BACK_S = 1.0
"""How far it may fall: B frames and late packets do so by less. That it stands still is no jump but a stall."""


_SPARING_NS = 1_000_000_000
"""A camera that goes mad with every picture is told of once a second."""


class _Mark(NamedTuple):
    width: int
    height: int
    pts: float | None
    captured_us: int | None
    received_ns: int

    @classmethod
    def of(cls, picture: Picture) -> _Mark:
        return cls(picture.width, picture.height, picture.pts, picture.captured_us, picture.received_ns)


class Changes:
    """Compares each picture of a stream with the one before. Used by the decoder thread alone."""

    def __init__(self) -> None:
        self._live = False
        self._last: _Mark | None = None
        self._codec: str | None = None
        self._codec_before: str | None = None
        self._told_ns: int | None = None
        self._untold = 0

    def begin(self, codec: str, *, live: bool) -> None:
        """The source was opened (again): its clocks may begin anew, its size and codec are still compared.

        live: a live source's time goes on with the arrival of its pictures. What is read ahead, or waits to be read,
        has another pace: there only a fall tells.
        """
        self._live = live
        self._codec_before, self._codec = self._codec, codec
        if self._last is not None:
            self._last = self._last._replace(pts=None, captured_us=None)

    def seen(self, picture: Picture) -> tuple[Reason, str] | None:
        """Why this picture begins something new, in one line; None when it just goes on.

        What comes within a second of the last one told is counted, and told with the next.
        """
        found = self._compared(picture)
        if found is None:
            return None
        if self._told_ns is not None and picture.received_ns - self._told_ns < _SPARING_NS:
            self._untold += 1
            return None
        more, self._untold = self._untold, 0
        self._told_ns = picture.received_ns
        return (found[0], f"{found[1]} ({more} changes before it not told)") if more else found

    def _compared(self, picture: Picture) -> tuple[Reason, str] | None:
        # Not the picture: its memory belongs to the decoder's pool.
        last, self._last = self._last, _Mark.of(picture)
        codec, self._codec_before = self._codec_before, self._codec
        if last is None:
            return None
        if codec not in (None, self._codec):
            return Reason.CODEC_CHANGED, f"the codec changed from {codec} to {self._codec}"
        if (picture.width, picture.height) != (last.width, last.height):
            sizes = f"{last.width}x{last.height} to {picture.width}x{picture.height}"
            return Reason.SIZE_CHANGED, f"the pictures' size changed from {sizes}"
        passed_s = (picture.received_ns - last.received_ns) / 1e9
        for what, off_s in (
            ("time stamps", _difference_s(last.pts, picture.pts, 1.0)),
            ("camera's clock", _difference_s(last.captured_us, picture.captured_us, 1e-6)),
        ):
            if off_s is None:
                continue
            if off_s < -_BACK_S or (self._live and off_s - passed_s > _AHEAD_S):
                return Reason.CLOCK_JUMP, f"the {what} jumped by {off_s:+.1f} s"
        return None


def _difference_s(before: float | None, after: float | None, unit_s: float) -> float | None:
    return None if before is None or after is None else (after - before) * unit_s
