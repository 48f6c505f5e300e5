"""One configured stream while the daemon runs: its attempts, its state, its events."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Literal, Protocol

from loguru import logger

from streamd.core.errors import Reason, SourceError
from streamd.core.histograms import StageTimes
from streamd.core.timing import NS_PER_S, now_ns
from streamd.models.contract import InputShape
from streamd.pipeline.decoder import EveryPicture, Feed, MediaPace, RateLimit, Selection
from streamd.pipeline.lane import Lane
from streamd.pipeline.ledger import Drop
from streamd.pipeline.ring import Ring, Rings
from streamd.pipeline.slots import unhurried
from streamd.service.backoff import Backoff
from streamd.service.changes import Changes
from streamd.service.config import Stream as StreamConfig
from streamd.service.configured import device_letterbox, letterbox, request_of
from streamd.service.standing import Reception, Standing, State
from streamd.sources import Source, open_source
from streamd.sources.source import Kind

_FAST_RING = 16
_STALLED_S = 2.0
_STALLED_INTERVALS = 5
_RATE_OF_UNKNOWN = 25.0
_DAMAGED_ENDS = (Reason.EOF, Reason.CORRUPT)


class Announce(Protocol):
    """Publishes an event of a stream. Any thread may call it; it never blocks."""

    def __call__(
        self, lane: Lane, event: State | Literal["reset"], reason: Reason | None, detail: str | None
    ) -> None: ...


def fast_ring(shape: InputShape) -> int:
    """How many frames of a file that is read as fast as it goes may wait, with their pictures if these are wanted."""
    return unhurried(shape, _FAST_RING)


class Stream:
    """Keeps one stream coming: attempt, fail, wait, attempt. `run` is the body of thread `decode:<id>`.

    The other methods may be called by any thread.
    """

    def __init__(
        self, config: StreamConfig, lane: Lane, rings: Rings, ring_size: int, announce: Announce
    ) -> None:
        self.config = config
        self.lane = lane
        self.times = StageTimes()
        self._ring: Ring = rings.add(lane, ring_size)
        self._ring_size = ring_size
        self._rings = rings
        self._announce = announce
        self._backoff = Backoff()
        self._changes = Changes()
        # Guards `_standing`, which the decoder and the watchdog both change, and the three after it.
        self._lock = threading.Lock()
        self._standing = Standing("connecting", None, now_ns(), None)
        self._turn = threading.Event()
        """Set when the attempt or the wait that goes on has to end: another configuration, or none any more."""
        self._leaving = False
        self._ended = False
        self._feed: Feed | None = None
        self._rate: float | None = None
        self._live_since_ns = 0
        self._live_source = True
        self._plays_again = False  # a clip in a loop began anew: that is no news
        self.reconnects: dict[Reason, int] = {}
        """Attempts that failed after, or before, the stream was live; written by the decoder only."""
        # Of earlier attempts, and the open source: one assignment, so that no reader sees a count twice or not.
        self._received: tuple[Reception, Source | None] = (Reception(), None)

    @property
    def standing(self) -> Standing:
        return self._standing

    def reception(self) -> Reception:
        """What was lost and left out before decoding, over all attempts. Any thread may ask."""
        earlier, source = self._received
        return earlier if source is None else earlier.with_(source)

    def run(self) -> None:
        """Attempt after attempt until the source has ended or the stream is left."""
        wait_s = 0.0
        while (turn := self._next_turn(wait_s)) is not None:
            wait_s = 0.0
            if not self._plays_again:
                self._enter("connecting")
            reason, detail = Reason.EOF, None
            try:
                self._attempt(turn)
            except SourceError as error:
                reason, detail = error.reason, str(error)
            if turn.is_set():
                continue
            if self._finished() and (detail is None or reason in _DAMAGED_ENDS):
                # A file that broke off on the way does so each time: it has ended, unless it is played in a loop.
                if self._ends(turn, reason, detail):
                    return
                continue
            wait_s = self._failed(reason, detail or "the source ended")

    def leave(self) -> None:
        """Ask the decoder to end; what it reads from may take until its time-out. Never blocks."""
        with self._lock:
            self._leaving = True
            self._turn.set()

    def reopen(self, config: StreamConfig, ring_size: int) -> bool:
        """Go on with this configuration from a new attempt on; frames and results are counted on. Never blocks.

        False when the stream has ended, and `run` has to be started again.
        """
        with self._lock:
            self._ring_size = ring_size
            self.config = config
            self._backoff = Backoff()
            self._turn.set()
            ended, self._ended = self._ended, False
            return not ended

    def adjust(self, config: StreamConfig) -> None:
        """Go on with this configuration, which differs in nothing that the source must be opened again for."""
        with self._lock:
            self.config = config
            if self._feed is not None:
                self._feed.selection = self._selection()
            source = self._received[1]
            if source is not None:
                source.thinning.max_fps = config.max_fps

    def _next_turn(self, wait_s: float) -> threading.Event | None:
        """Wait; the event that ends the next attempt, None when the stream is left."""
        self._turn.wait(wait_s)
        with self._lock:
            if self._leaving:
                return None
            if self._turn.is_set():
                self._turn = threading.Event()
                self._plays_again = False
            return self._turn

    def _ends(self, turn: threading.Event, reason: Reason, detail: str | None) -> bool:
        """Whether the end stands: a new configuration may have come with it."""
        with self._lock:
            if turn.is_set():
                return False
            # In one step: whoever reopens the stream from now on comes after what is told here.
            self._ended = True
            self._change_locked("ended", reason, detail)
        self._log("ended", detail)
        return True

    def watch(self, now: int) -> None:
        """Say `stalled` when a live source gives nothing for max(2 s, 5 frame intervals). Never blocks."""
        feed, rate = self._feed, self._rate
        if feed is None or not feed.last_picture_ns or feed.waits_for_room or not self._live_source:
            return
        source = self._received[1]
        interval_s = (source and source.thinning.interval_s) or (1 / rate if rate else 0)
        quiet_s = max(_STALLED_S, _STALLED_INTERVALS * interval_s)
        silent_ns = now - feed.last_picture_ns
        if silent_ns > quiet_s * NS_PER_S:
            self._change(("live",), "stalled", Reason.TIMEOUT, f"no picture for {silent_ns / NS_PER_S:.1f} s")
        else:
            self._change(("stalled",), "live", None, None)

    def remove(self) -> None:
        """Take the stream out: it is left, what waits is dropped, and `removed` is announced. Never blocks."""
        self.leave()
        self.lane.removed = True
        self._rings.remove(self._ring, Drop.REMOVED)
        self._enter("removed", Reason.OPERATOR, None)

    def _attempt(self, stop: threading.Event) -> None:
        """Open the source once and feed its pictures. Raises SourceError; returns when it ended."""
        config = self.config
        device = self.lane.slots.target.device
        request = request_of(config, None if device is None else device.number)
        self._live_since_ns = 0
        with open_source(request, stop) as source:
            told = len(source.notes)
            for note in source.notes:
                logger.info("{}: {}", config.id, note)
            live = source.live if config.intent == "auto" else config.intent == "live"
            self.lane.live = live
            self._rate = source.rate
            self._live_source = source.live
            with self._lock:  # `adjust` finds this feed, or its configuration is found here
                self._feed = feed = self._feed_for(source)
            with self._lock:
                self._received = (self._received[0], source)
                source.thinning.max_fps = self.config.max_fps
            self._changes.begin(source.codec, live=source.live and live)
            try:
                with feed.shift or nullcontext():
                    self._play(source, feed, told, stop)
            finally:
                self._feed = None
                self._received = (self.reception(), None)

    def _play(self, source: Source, feed: Feed, told: int, stop: threading.Event) -> None:
        """Feed every picture of the source; `told`: so many of its notes are in the log already."""
        for picture in source.pictures():
            if not self._live_since_ns:
                self._live_since_ns = now_ns()
                shape = f"{picture.width}x{picture.height} {source.codec}"
                if not self._plays_again:
                    self._enter("live", None, shape)
            change = self._changes.seen(picture)
            if change is not None:
                self._reset(*change)
            feed.accept(picture, stop)
            del picture  # libav decodes the next one where it lay, if nothing is predicted from it
            for note in source.notes[told:]:
                told += 1
                logger.warning("{}: {}", self.config.id, note)
            if stop.is_set():
                return
            if feed.shift is not None:
                feed.shift.go_on()

    def _reset(self, reason: Reason, detail: str) -> None:
        """Something began anew in mid-stream: told before the first frame that is of it."""
        with self._lock:
            if self._standing.state == "removed":
                return
            self._announce(self.lane, "reset", reason, detail)
        logger.info("{}: {}", self.config.id, detail)

    def _feed_for(self, source: Source) -> Feed:
        paced = not source.live and self.config.pace == "media"
        self.lane.urgent = source.live or paced
        grows_old = self.lane.urgent or self.lane.live
        target = self.lane.slots.target
        self._ring.resize(self._ring_size if grows_old else fast_ring(target.shape))
        # Who may wait for a network, or for a GPU that decodes, takes no core meanwhile.
        in_shifts = not grows_old and self.config.kind is Kind.FILE and target.device is None
        return Feed(
            self.lane,
            self._ring,
            letterbox,
            self._selection(),
            source.clock,
            MediaPace() if paced else None,
            there=device_letterbox,
            shift=self._rings.shifts.next() if in_shifts else None,
        )

    def _selection(self) -> Selection:
        max_fps = self.config.max_fps
        return EveryPicture() if max_fps is None else RateLimit(max_fps, by_pts=not self._live_source)

    def _finished(self) -> bool:
        """Whether an attempt that ended in order is the end: of a file that is played once."""
        return not self._live_source and not self.config.loop and bool(self._live_since_ns)

    def _failed(self, reason: Reason, detail: str) -> float:
        """Tell of a failed attempt; the seconds to wait until the next one."""
        self._plays_again = (
            self.config.loop and reason is Reason.EOF and bool(self._live_since_ns) and not self._live_source
        )
        if self._plays_again:
            # The last picture is shown as long as the others.
            return 0.0 if self.config.pace == "fast" else 1 / (self._rate or _RATE_OF_UNKNOWN)
        served_s = (now_ns() - self._live_since_ns) / NS_PER_S if self._live_since_ns else 0.0
        wait_s = self._backoff.next_s(reason, served_s)
        self.reconnects[reason] = self.reconnects.get(reason, 0) + 1
        self._enter("lost", reason, detail)
        logger.warning(
            "{}: {}; next attempt in {:.0f} s (attempt {})",
            self.config.id,
            detail,
            wait_s,
            self._backoff.attempt,
        )
        return wait_s

    def _enter(self, state: State, reason: Reason | None = None, detail: str | None = None) -> None:
        self._change(None, state, reason, detail)

    def _change(
        self, only_from: tuple[State, ...] | None, state: State, reason: Reason | None, detail: str | None
    ) -> None:
        with self._lock:
            if only_from is not None and self._standing.state not in only_from:
                return
            if not self._change_locked(state, reason, detail):
                return
        self._log(state, detail)

    def _change_locked(self, state: State, reason: Reason | None, detail: str | None) -> bool:
        """Whether it changed: what was removed stays so."""
        if self._standing.state == "removed":
            return False
        self._standing = Standing(state, reason, now_ns(), detail)
        # Announced under the lock: two threads that change the state also tell of it in that order.
        self._announce(self.lane, state, reason, detail)
        return True

    def _log(self, state: State, detail: str | None) -> None:
        if state in ("live", "ended", "stalled"):
            logger.info("{}: {}{}", self.config.id, state, f" ({detail})" if detail else "")
