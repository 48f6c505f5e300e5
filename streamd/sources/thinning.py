"""Less decoding for a stream of which only some pictures are wanted."""

from __future__ import annotations

from collections import deque

from streamd.core.timing import NS_PER_S, Rhythm

OBSERVED_S = 15.0
"""For so long, and so many intervals, keyframes have to come often enough before what lies between them is left out.

A cut, a lamp that is switched on, or a network that was held up make some come at once. Who took that for their usual
pace would see nothing until the next regular one: so it is longer than the intervals that cameras are set to.
"""
_OBSERVED = 3


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
        self.observed_s = OBSERVED_S
        self._gap = False
        self._between = False  # as of MJPEG, where each picture is a keyframe: there nothing can be missed
        self._clean_from: int | None = None
        self._intervals_ns: deque[int] = deque(maxlen=_OBSERVED)
        self._newest_ns: int | None = None
        self._often_since: tuple[float, int] | None = None  # for this `max_fps`
        self._rhythm: Rhythm | None = None

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
            self._between = True
            return self.interval_s is not None
        max_fps = self.max_fps
        newest_ns, self._newest_ns = self._newest_ns, arrival_ns
        if max_fps is None:
            self._often_since = None
        if max_fps is None or newest_ns is None or not self._often_enough(newest_ns, arrival_ns, max_fps):
            self._rhythm = self.interval_s = None
            return False
        self.interval_s = max(max(self._intervals_ns) / NS_PER_S, 1 / max_fps)
        if self._rhythm is None:
            self._rhythm = Rhythm(max_fps)
        due = self._rhythm.due(arrival_ns)
        if due:
            self._rhythm.advance(arrival_ns)
        return not due

    def _often_enough(self, newest_ns: int, arrival_ns: int, max_fps: float) -> bool:
        """Whether keyframes have come that often up to this one, and for long enough to rely on it."""
        interval_ns = arrival_ns - newest_ns
        # A tenth of slack, as the rhythm has: keyframes are large and come unevenly.
        if interval_ns > 1.1 * NS_PER_S / max_fps:
            self._often_since = None
            return False
        if self._often_since is None or self._often_since[0] != max_fps:
            self._often_since = max_fps, newest_ns
            self._intervals_ns.clear()
        self._intervals_ns.append(interval_ns)
        proven_ns = self._often_since[1] + self.observed_s * NS_PER_S * self._between
        return len(self._intervals_ns) == _OBSERVED and arrival_ns >= proven_ns
