"""The body of a decoder thread: pictures of one open source become frames in the stream's ring."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamd.core.picture import Picture
from streamd.core.timing import NS_PER_S, Rhythm, Stamps, now_ns, wall_us
from streamd.models.contract import Array, Placement
from streamd.models.memory import DeviceArray
from streamd.pipeline.lane import Clock, Frame, Lane
from streamd.pipeline.ledger import Drop
from streamd.pipeline.ring import Ring
from streamd.pipeline.shifts import Shift
from streamd.pipeline.slots import ModelInput, Slot


class Preparer(Protocol):
    """Writes a picture into a model input; one per decoder thread, since it keeps scratch memory."""

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement: ...


class DevicePreparer(Protocol):
    """Writes a picture that lies on a GPU into a model input that lies there; one per decoder thread."""

    def write(self, picture: Picture, there: DeviceArray | None) -> tuple[DeviceArray, Placement] | None:
        """The input, `there` or new memory, and where the picture lies in it; None: it was not written."""
        ...


class Selection(Protocol):
    """Which pictures go on to the model. Asked once per decoded picture, in order."""

    def wants(self, number: int, picture: Picture) -> bool: ...

    def over(self) -> bool:
        """Whether no later picture will be wanted."""
        ...


class EveryPicture:
    """Every picture goes on."""

    def wants(self, number: int, picture: Picture) -> bool:
        return True

    def over(self) -> bool:
        return False


class RateLimit:
    """At most `max_fps` pictures a second, as evenly as they come: of arrival, or of media time (`by_pts`).

    A file is decoded ahead of its pace, so only its own time tells how many a second it has.
    """

    def __init__(self, max_fps: float, *, by_pts: bool = False) -> None:
        self._rhythm = Rhythm(max_fps)
        self._by_pts = by_pts

    def wants(self, number: int, picture: Picture) -> bool:
        now = picture.received_ns
        if self._by_pts and picture.pts is not None:
            now = int(picture.pts * NS_PER_S)
        due = self._rhythm.due(now)
        if due:
            self._rhythm.advance(now)
        return due

    def over(self) -> bool:
        return False


class MediaPace:
    """Holds a file's pictures back until their media time, so that it plays like a camera."""

    _LONGEST_WAIT_S = 10.0

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None  # pts in seconds, monotonic ns

    def wait(self, pts: float | None, stop: threading.Event) -> None:
        """Block until `pts` is due; a picture without one is due at once, a jump in pts starts anew."""
        if pts is None:
            return
        now = now_ns()
        if self._start is None:
            self._start = (pts, now)
            return
        pts0, ns0 = self._start
        wait_s = (pts - pts0) - (now - ns0) / NS_PER_S
        if abs(wait_s) > self._LONGEST_WAIT_S:
            self._start = (pts, now)
        elif wait_s > 0:
            stop.wait(wait_s)


@dataclass(slots=True)
class Feed:
    """How the pictures of a source go into a lane."""

    lane: Lane
    ring: Ring
    preparer: Callable[[ModelInput], Preparer]
    selection: Selection
    clock: Clock
    pace: MediaPace | None = None
    last_picture_ns: int = 0
    """When the last picture was received (monotonic); read by the watchdog."""
    there: Callable[[ModelInput], DevicePreparer | None] = lambda target: None
    """Makes what prepares pictures that a GPU has decoded; None: they are fetched, and prepared like others."""
    shift: Shift | None = None
    """What the decoder is in while it works, if nothing but a full ring ever holds it up."""
    waits_for_room: bool = False
    """Whether the decoder is held up by a full ring, not by its source; read by the watchdog."""
    _prepare: tuple[ModelInput, Preparer, DevicePreparer | None] | None = None

    def accept(self, picture: Picture, stop: threading.Event) -> None:
        """One picture: counted, and either dropped with its reason or put into the ring.

        Blocks while the ring is full or the picture is not due (not `live`); never longer than until `stop`
        is set and the rings are closed.
        """
        decoded_ns = now_ns()
        self.last_picture_ns = picture.received_ns
        lane = self.lane
        number = lane.ledger.decoded()
        if lane.live and picture.corrupt:
            lane.ledger.dropped(Drop.CORRUPT)
            return
        if not self.selection.wants(number, picture):
            lane.ledger.dropped(Drop.RATE_LIMIT)
            return
        stamps = Stamps(received=picture.received_ns, decoded=decoded_ns)
        received_us = picture.received_us
        if self.pace is not None:
            self.pace.wait(picture.pts, stop)
            # A paced picture "arrives" when it is due: the wait is nobody's delay.
            held_ns = now_ns() - decoded_ns
            stamps.received += held_ns
            stamps.decoded += held_ns
            received_us = wall_us() - (stamps.decoded - stamps.received) // 1000
        slots = lane.slots  # one reading: another thread exchanges it when the model changes
        slot = slots.acquire(stop)
        if slot is None:
            lane.ledger.dropped(Drop.REMOVED if lane.removed else Drop.SHUTDOWN)
            return
        if self._prepare is None or self._prepare[0] is not slots.target:
            self._prepare = (slots.target, self.preparer(slots.target), self.there(slots.target))
        _, prepare, there = self._prepare
        with self.ring.turnstile.for_(picture):
            placement = _written(picture, slot, prepare, there)
            frame = self._frame(number, picture, placement, slot, stamps, received_us)
            if lane.live:
                self.ring.put_newest_wins(frame)
                return
        self._put_when_there_is_room(frame)

    def _frame(
        self,
        number: int,
        picture: Picture,
        placement: Placement,
        slot: Slot,
        stamps: Stamps,
        received_us: int,
    ) -> Frame:
        stamps.prepared = now_ns()
        return Frame(
            lane=self.lane,
            number=number,
            pts=picture.pts,
            captured_us=picture.captured_us,
            received_us=received_us,
            clock="rtcp" if picture.captured_us is not None else self.clock,
            width=picture.width,
            height=picture.height,
            sar=picture.sar,
            slot=slot,
            placement=placement,
            stamps=stamps,
            picture=picture if self.lane.keeping.due(stamps.received) else None,
        )

    def _put_when_there_is_room(self, frame: Frame) -> None:
        self.waits_for_room = True
        if self.shift is not None and self.ring.is_full():
            self.shift.end()
            self.ring.put_wait_for_room(frame)
            self.shift.begin()
        else:
            self.ring.put_wait_for_room(frame)
        self.last_picture_ns = now_ns()  # the source was not listened to: its silence begins now
        self.waits_for_room = False


def _written(picture: Picture, slot: Slot, prepare: Preparer, there: DevicePreparer | None) -> Placement:
    """Write the picture into the slot, on the GPU if it lies there."""
    if picture.device is not None and there is not None:
        written = there.write(picture, slot.there)
        if written is not None:
            slot.there, placement = written
            slot.on_device = True
            return placement
    slot.placement = prepare.write(picture, slot.pixels, slot.placement)
    slot.on_device = False
    return slot.placement
