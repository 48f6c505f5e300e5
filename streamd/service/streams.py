"""One configured stream while the daemon runs: its attempts, its state, its events."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from loguru import logger

from streamd.core.errors import Reason, SourceError
from streamd.core.timing import NS_PER_S, StageTimes, now_ns
from streamd.models.contract import InputContract, InputShape
from streamd.models.preprocess import Letterbox
from streamd.pipeline.decoder import EveryPicture, Feed, MediaPace, RateLimit, Selection
from streamd.pipeline.lane import Lane
from streamd.pipeline.ledger import Drop
from streamd.pipeline.ring import Ring, Rings
from streamd.service.backoff import Backoff
from streamd.service.changes import Changes
from streamd.service.config import Stream as StreamConfig
from streamd.sources import Hardware, Reader, Source, SourceRequest, Tls, Transport, open_source

State = Literal["connecting", "live", "stalled", "lost", "ended", "removed"]
_STALLED_S = 2.0
_STALLED_INTERVALS = 5
_RATE_OF_UNKNOWN = 25.0


class Announce(Protocol):
    """Publishes an event of a stream. Any thread may call it; it never blocks."""

    def __call__(
        self, lane: Lane, event: State | Literal["reset"], reason: Reason | None, detail: str | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream stands: one reading for status, metrics and health."""

    state: State
    reason: Reason | None
    since_ns: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class Reception:
    """What never came to a decoded frame: packets that the network lost, and pictures left out, by reason."""

    lost_packets: int = 0
    undecoded: Mapping[str, int] = field(default_factory=dict)

    def with_(self, source: Source) -> Reception:
        """These and those of one more source."""
        more = source.undecoded
        undecoded = {
            reason: self.undecoded.get(reason, 0) + more.get(reason, 0)
            for reason in self.undecoded.keys() | more.keys()
        }
        return Reception(self.lost_packets + source.lost_packets, undecoded)


class Stream:
    """Keeps one stream coming: attempt, fail, wait, attempt. `run` is the body of thread `decode:<id>`.

    The other methods may be called by any thread.
    """

    def __init__(
        self,
        config: StreamConfig,
        lane: Lane,
        rings: Rings,
        ring_size: int,
        model_input: tuple[InputContract, InputShape],
        announce: Announce,
    ) -> None:
        self.config = config
        self.lane = lane
        self.times = StageTimes()
        self._ring: Ring = rings.add(lane, ring_size)
        self._rings = rings
        self._model_input = model_input
        self._announce = announce
        self._backoff = Backoff()
        self._lock = threading.Lock()  # guards `_standing`: the decoder and the watchdog both change it
        self._standing = Standing("connecting", None, now_ns(), None)
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

    def run(self, stop: threading.Event) -> None:
        """Attempt after attempt until the source has ended or `stop` is set."""
        wait_s = 0.0
        while not stop.wait(wait_s):
            if not self._plays_again:
                self._enter("connecting")
            try:
                self._attempt(stop)
            except SourceError as error:
                reason, detail = error.reason, str(error)
            else:
                if stop.is_set() or self._finished():
                    break
                reason, detail = Reason.EOF, "the source ended"
            if stop.is_set():
                break
            if self._played_to_a_damaged_end(reason):
                self._enter("ended", reason, detail)
                return
            wait_s = self._failed(reason, detail)
        if not stop.is_set():
            self._enter("ended", Reason.EOF, None)

    def watch(self, now: int) -> None:
        """Say `stalled` when a live source gives nothing for max(2 s, 5 frame intervals). Never blocks."""
        feed, rate = self._feed, self._rate
        if feed is None or feed.waits_for_room or not self._live_source:
            return
        quiet_s = _STALLED_S if not rate else max(_STALLED_S, _STALLED_INTERVALS / rate)
        silent_ns = now - feed.last_picture_ns
        if silent_ns > quiet_s * NS_PER_S:
            self._change(("live",), "stalled", Reason.TIMEOUT, f"no picture for {silent_ns / NS_PER_S:.1f} s")
        else:
            self._change(("stalled",), "live", None, None)

    def remove(self) -> None:
        """Take the stream out: what waits is dropped, and `removed` is announced."""
        self._rings.remove(self._ring, Drop.REMOVED)
        self._enter("removed", Reason.OPERATOR, None)

    def _attempt(self, stop: threading.Event) -> None:
        """Open the source once and feed its pictures. Raises SourceError; returns when it ended."""
        config, request = self.config, request_of(self.config)
        self._live_since_ns = 0
        with open_source(request, stop) as source:
            for note in source.notes:
                logger.info("{}: {}", config.id, note)
            live = source.live if config.intent == "auto" else config.intent == "live"
            self.lane.live = live
            self._rate = source.rate
            self._live_source = source.live
            feed = self._feed_for(source)
            self._received = (self._received[0], source)
            changes = Changes(live=source.live and live)
            try:
                for picture in source.pictures():
                    if not self._live_since_ns:
                        self._live_since_ns = now_ns()
                        feed.last_picture_ns = picture.received_ns
                        self._feed = feed
                        shape = f"{picture.width}x{picture.height} {source.codec}"
                        if not self._plays_again:
                            self._enter("live", None, shape)
                    change = changes.seen(picture)
                    if change is not None:
                        self._reset(*change)
                    feed.accept(picture, stop)
                    if stop.is_set():
                        return
            finally:
                self._feed = None
                self._received = (self.reception(), None)

    def _reset(self, reason: Reason, detail: str) -> None:
        """Something began anew in mid-stream: told before the first frame that is of it."""
        with self._lock:
            self._announce(self.lane, "reset", reason, detail)
        logger.info("{}: {}", self.config.id, detail)

    def _feed_for(self, source: Source) -> Feed:
        config = self.config
        selection: Selection = EveryPicture()
        if config.max_fps is not None:
            selection = RateLimit(config.max_fps, by_pts=not source.live)
        paced = not source.live and config.pace == "media"
        self.lane.urgent = source.live or paced
        return Feed(
            self.lane,
            self._ring,
            Letterbox(*self._model_input),
            selection,
            source.clock,
            MediaPace() if paced else None,
        )

    def _finished(self) -> bool:
        """Whether an attempt that ended without an error is the end: of a file that is played once."""
        return not self._live_source and not self.config.loop and bool(self._live_since_ns)

    def _played_to_a_damaged_end(self, reason: Reason) -> bool:
        """A file that broke off on the way does so each time: it has ended, unless it is played in a loop."""
        return self._finished() and reason in (Reason.EOF, Reason.CORRUPT)

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
            if self._standing.state == "removed":
                return
            self._standing = Standing(state, reason, now_ns(), detail)
            # Announced under the lock: two threads that change the state also tell of it in that order.
            self._announce(self.lane, state, reason, detail)
        if state in ("live", "ended", "stalled"):
            logger.info("{}: {}{}", self.config.id, state, f" ({detail})" if detail else "")


def request_of(config: StreamConfig) -> SourceRequest:
    """What a configured stream asks of its source."""
    return SourceRequest(
        url=config.url,
        username=config.username,
        password=config.password.get_secret_value() if config.password else None,
        transport=Transport(config.transport),
        reader=Reader(config.reader),
        timeout_s=config.timeout_s,
        tls=Tls(config.tls.verify, str(config.tls.ca) if config.tls.ca else None),
        video="best" if isinstance(config.video, str) else config.video,
        hardware=Hardware(config.hardware),
        every=config.intent == "every",
    )
