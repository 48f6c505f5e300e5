"""Less decoding for a stream of which only some pictures are wanted."""

from __future__ import annotations

from collections import deque

from streamd.core.timing import NS_PER_S, Rhythm

_OBSERVED = 3
"""So many intervals between keyframes have to be short before the pictures between them are left out."""


class Thinning:
    """Which encoded pictures of a live stream need no decoding, since its keyframes alone come often enough.

    A picture between two keyframes needs all those before it, so `max_fps: 1` of a camera with 30 pictures a second
    costs as much as all 30; of a camera with a keyframe a second it can cost one. Used in the reader's thread, but
    for `max_fps`, which any thread may set, and `interval_s` and `left_out`, which any may read.
    """

    def __init__(self) -> None:
        self.max_fps: float | None = None
        """The most pictures a second that anybody wants; None: all."""
        self.interval_s: float | None = None
        """How long it is from one picture to the next while those between keyframes are left out; else None."""
        self.left_out = 0
        """How many encoded pictures were."""
        self._gap = False
        self._clean_from: int | None = None
        self._intervals_ns: deque[int] = deque(maxlen=_OBSERVED)
        self._newest_ns: int | None = None
        self._rhythm: tuple[float, Rhythm] | None = None

    def skips(self, begins: bool, arrival_ns: int, pts: int | None = None) -> bool:
        """Whether the next encoded picture is left out. begins: whether decoding can begin with it."""
        if self._unwanted(begins, arrival_ns):
            self.left_out += 1
            self._gap = True
            return True
        if begins:
            self._clean_from = pts if self._gap else None
            self._gap = False
        return False

    def torn(self, pts: int | None) -> bool:
        """Whether the picture of this time, in the unit of `skips`, may refer to one that was left out.

        It is shown before a keyframe and came after it.
        """
        return pts is not None and self._clean_from is not None and pts < self._clean_from

    def _unwanted(self, begins: bool, arrival_ns: int) -> bool:
        if not begins:
            return self.interval_s is not None
        if self._newest_ns is not None:
            self._intervals_ns.append(arrival_ns - self._newest_ns)
        self._newest_ns = arrival_ns
        max_fps = self.max_fps
        if max_fps is None or not self._suffice(max_fps):
            self._rhythm = self.interval_s = None
            return False
        self.interval_s = max(max(self._intervals_ns) / NS_PER_S, 1 / max_fps)
        if self._rhythm is None or self._rhythm[0] != max_fps:
            self._rhythm = max_fps, Rhythm(max_fps)
        rhythm = self._rhythm[1]
        due = rhythm.due(arrival_ns)
        if due:
            rhythm.advance(arrival_ns)
        return not due

    def _suffice(self, max_fps: float) -> bool:
        # A tenth of slack, as the rhythm has: keyframes are large and come unevenly.
        longest_ns = 1.1 * NS_PER_S / max_fps
        return len(self._intervals_ns) == _OBSERVED and max(self._intervals_ns) <= longest_ns
