"""What is known of a running daemon from outside, put together from its bus and its metrics endpoint."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from streamd.bus import wire
from streamd.bus.gaps import Gaps
from streamd.bus.versions import newer_schema
from streamd.core.text import printable
from streamd.core.timing import NS_PER_S, now_ns, wall_us
from streamd.service.scrape import Reading, Scrape

_WINDOW_NS = 5 * NS_PER_S
_MOST_RESULTS = 300  # of a stream within the window
_MOST_STREAMS = 1000  # whose results are looked at before a status has told which there are
_HUGE = 1 << 62

SCHEMA = "streamd.top/1"


class StreamOverview(Struct, omit_defaults=True, kw_only=True):
    """One stream. Ages and stage times are of the results of the last 5 s; `lost` counts since this reader began.

    `drops`, `reconnects` and `packets_lost` come from the metrics endpoint, and are absent without it.
    """

    state: str
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    since_s: float | UnsetType = UNSET
    fps: float
    age_p50_ms: float | UnsetType = UNSET
    age_p95_ms: float | UnsetType = UNSET
    age_p99_ms: float | UnsetType = UNSET
    stages_ms: dict[str, float] = {}
    provider: str | UnsetType = UNSET
    seq: int
    decoded: int
    dropped: int
    dropped_per_s: float | UnsetType = UNSET
    drops: dict[str, int] | UnsetType = UNSET
    reconnects: int | UnsetType = UNSET
    packets_lost: int | UnsetType = UNSET
    lost: int = msgspec.field(default=-1)  # -1, which never is, so that 0 is written


class Overview(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    """A daemon. Without `run` nothing has been heard of it so far."""

    endpoint: str
    at_us: int
    silent_s: float | UnsetType = UNSET
    """Since the last message."""
    run: str | UnsetType = UNSET
    restarts: int = -1
    """How often `run` changed since this reader began."""
    version: str | UnsetType = UNSET
    uptime_s: float | UnsetType = UNSET
    model: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    event: str | UnsetType = UNSET
    """The daemon's last event, for people."""
    metrics: str | UnsetType = UNSET
    """The metrics endpoint, when it answers."""
    metrics_problem: str | UnsetType = UNSET
    newer: str | UnsetType = UNSET
    """A schema that was heard and is newer than this reader."""
    unreadable: str | UnsetType = UNSET
    """A topic on which came what is no message of streamd."""
    streams: dict[str, StreamOverview] = {}


def as_json(found: Overview) -> str:
    """One line."""
    return msgspec.json.encode(found).decode()


class _Seen(Struct, tag_field="schema", tag=wire.RESULT):
    """What is looked at of a result."""

    run: str
    stream: str
    epoch: int
    seq: int
    stages_ms: wire.Millis
    provider: str


_decode_seen = msgspec.json.Decoder(_Seen).decode
_decode_note = msgspec.json.Decoder(wire.EventMessage | wire.StatusMessage).decode


@dataclass(slots=True)
class _Results:
    """What the results of a stream have told."""

    recent: deque[tuple[int, wire.Millis]] = field(default_factory=lambda: deque(maxlen=_MOST_RESULTS))
    lost: int = 0
    provider: str | UnsetType = UNSET


class Watch:
    """Takes messages and readings, gives an `Overview` at any moment. For one thread."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._heard_ns: int | None = None
        self._status: wire.StatusMessage | None = None
        self._before: dict[str, int] = {}
        self._rates: dict[str, float] = {}
        self._events: dict[str, wire.EventMessage] = {}
        self._daemon_event: wire.EventMessage | None = None
        self._results: dict[str, _Results] = {}
        self._gaps = Gaps()
        self._restarts = 0
        self._newer: str | UnsetType = UNSET
        self._unreadable: str | UnsetType = UNSET
        self.fresh = False
        """Whether a status has come that was made since this reader began."""

    def take(self, topic: str, body: bytes) -> None:
        """A message; what cannot be read is noted, never raised."""
        self._heard_ns = now_ns()
        kind = topic.rpartition("/")[2]
        if kind not in ("results", "events", "status"):
            return
        try:
            if kind == "results":
                self._take_result(_decode_seen(body))
            else:
                note = _decode_note(body)
                self._take_event(note) if isinstance(note, wire.EventMessage) else self._take_status(note)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            newer = newer_schema(body)
            if newer is not None:
                self._newer = newer
            else:
                self._unreadable = printable(topic)[:100]

    def _take_result(self, seen: _Seen) -> None:
        _refuse_huge(seen.seq, seen.epoch, *seen.stages_ms.values())
        known = self._status.streams if self._status is not None else {}
        if seen.stream not in known and len(self._results) >= _MOST_STREAMS:
            return
        results = self._results.setdefault(seen.stream, _Results())
        results.recent.append((now_ns(), seen.stages_ms))
        results.lost += self._gaps.before(seen.run, seen.stream, seen.epoch, seen.seq)
        results.provider = seen.provider

    def _take_event(self, event: wire.EventMessage) -> None:
        _refuse_huge(event.at_us)
        if isinstance(event.stream, str):
            if event.stream in self._events or len(self._events) < _MOST_STREAMS:
                self._events[event.stream] = event
        else:
            self._daemon_event = event

    def _take_status(self, status: wire.StatusMessage) -> None:
        for stream in status.streams.values():
            _refuse_huge(stream.seq, stream.decoded, stream.dropped, stream.fps)
        _refuse_huge(status.uptime_s)
        last = self._status
        if last is not None and last.run != status.run:
            self._restarts += 1
            self._before.clear()
            self._rates.clear()
            self._results.clear()
            self._newer = self._unreadable = UNSET
            last = None
        passed_s = status.uptime_s - last.uptime_s if last is not None else 0.0
        for name, stream in status.streams.items():
            if name in self._before and passed_s > 0:
                self._rates[name] = max(0.0, (stream.dropped - self._before[name]) / passed_s)
            self._before[name] = stream.dropped
        self._status = status
        self.fresh = self.fresh or status.replay is not True

    @property
    def newer(self) -> str | None:
        """A schema that came and is newer than this reader."""
        return self._newer if isinstance(self._newer, str) else None

    def overview(self, reading: Reading) -> Overview:
        """As it is now, with the last answer of the metrics endpoint."""
        scraped, problem = reading.answer, reading.problem
        status, now = self._status, now_ns()
        found = Overview(endpoint=self._endpoint, at_us=wall_us(), restarts=self._restarts)
        found.newer, found.unreadable = self._newer, self._unreadable
        if self._heard_ns is not None:
            found.silent_s = round((now - self._heard_ns) / NS_PER_S, 1)
        if status is not None:
            if scraped is not None and scraped.streams and not scraped.streams.keys() & status.streams.keys():
                scraped, problem = None, f"{reading.address} is another daemon's"
            found.run, found.version = printable(status.run), printable(status.version)
            found.uptime_s = status.uptime_s
            found.model, found.provider = printable(status.model), printable(status.provider)
            found.streams = {
                printable(name): self._stream(name, stream, scraped, now)
                for name, stream in status.streams.items()
            }
        if self._daemon_event is not None:
            detail = self._daemon_event.detail
            found.event = self._daemon_event.event + (f": {printable(detail)}" if detail else "")
        if scraped is not None:
            found.metrics = reading.address
        else:
            found.metrics_problem = problem
        return found

    def _stream(
        self, name: str, status: wire.StreamStatus, scraped: Scrape | None, now: int
    ) -> StreamOverview:
        found = StreamOverview(
            state=printable(status.state),
            reason=status.reason if status.reason is UNSET else printable(status.reason),
            fps=status.fps,
            age_p99_ms=status.age_p99_ms,
            seq=status.seq,
            decoded=status.decoded,
            dropped=status.dropped,
            dropped_per_s=round(self._rates[name], 2) if name in self._rates else UNSET,
            lost=0,
        )
        event = self._events.get(name)
        if event is not None and event.event == status.state:
            found.detail = event.detail if event.detail is UNSET else printable(event.detail)
            found.since_s = round(max(0, wall_us() - event.at_us) / 1e6, 1)
        if name in self._results:
            self._add_results(found, self._results[name], now)
        if scraped is not None and name in scraped.streams:
            page = scraped.streams[name]
            found.since_s = page.since_s
            found.drops = {printable(reason): number for reason, number in page.dropped.items()}
            found.reconnects = scraped.reconnects.get(name, 0)
            found.packets_lost = scraped.packets_lost.get(name, 0)
        return found

    def _add_results(self, found: StreamOverview, results: _Results, now: int) -> None:
        while results.recent and now - results.recent[0][0] > _WINDOW_NS:
            results.recent.popleft()
        found.lost = results.lost
        found.provider = results.provider if results.provider is UNSET else printable(results.provider)
        ages = [stages["total"] for _, stages in results.recent if "total" in stages]
        if ages:
            found.age_p50_ms, found.age_p95_ms = (
                round(float(value), 3) for value in np.quantile(ages, (0.5, 0.95))
            )
        names = {printable(name): name for _, stages in results.recent for name in stages}
        for shown, name in names.items():
            if name != "total":
                values = [stages[name] for _, stages in results.recent if name in stages]
                found.stages_ms[shown] = round(sum(values) / len(values), 3)


def _refuse_huge(*numbers: float) -> None:
    """JSON's integers have no end, and no counter, time or rate comes near this."""
    if any(not -_HUGE < number < _HUGE for number in numbers):
        raise msgspec.ValidationError("a number that is none of streamd's")
