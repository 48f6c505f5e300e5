"""Which frames keep their source picture on the way to the result."""

from __future__ import annotations

from streamd.core.timing import Rhythm


class Keeping:
    """One lane's answer; nobody wants a picture until `wanted` is set. Any thread may ask, and set it.

    A picture holds the decoder's memory. From the moment one is due each frame keeps its own, since any of them may
    be dropped; the first that comes to a result goes on, the others end there. So no more are held than frames
    are on their way, and one a result.
    """

    __slots__ = ("_rhythm", "wanted")

    def __init__(self, max_fps: float | None = None, *, wanted: bool = False) -> None:
        self.wanted = wanted
        self._rhythm = None if max_fps is None else Rhythm(max_fps)

    def due(self, received_ns: int) -> bool:
        """Whether a frame received at this moment (monotonic) keeps its picture. For the decoder."""
        return self.wanted and (self._rhythm is None or self._rhythm.due(received_ns))

    def take(self, received_ns: int) -> bool:
        """Whether its picture goes on with the result. For the worker, once for each frame that has one."""
        due = self.due(received_ns)
        if due and self._rhythm is not None:
            self._rhythm.advance(received_ns)
        return due
