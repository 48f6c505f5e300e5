"""The status message: the whole daemon in one reading, each second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET

from streamd import __version__
from streamd.bus import wire
from streamd.core.timing import NS_PER_S, now_ns
from streamd.models.detector import Detector
from streamd.service.streams import Stream

_EVERY_NS = NS_PER_S
_NAMED = 5


class StatusReporter:
    """Makes a status message when one is due. For one thread."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._started_ns = now_ns()
        self._last_ns = self._started_ns
        self._published: dict[str, int] = {}

    def due(self, streams: Mapping[str, Stream], detector: Detector) -> wire.StatusMessage | None:
        """The status, when a second has passed since the last one."""
        now = now_ns()
        passed_ns = now - self._last_ns
        if passed_ns < _EVERY_NS:
            return None
        self._last_ns = now
        self._published = {name: seq for name, seq in self._published.items() if name in streams}
        return wire.StatusMessage(
            run=self._run,
            version=__version__,
            uptime_s=round((now - self._started_ns) / NS_PER_S, 1),
            provider=detector.provider,
            model=detector.name,
            streams={name: self._stream(name, stream, passed_ns) for name, stream in streams.items()},
        )

    def _stream(self, name: str, stream: Stream, passed_ns: int) -> wire.StreamStatus:
        counts = stream.lane.ledger.snapshot()
        standing = stream.standing
        # A stream that was added anew counts from 0 again.
        new = max(counts.published - self._published.get(name, 0), 0)
        self._published[name] = counts.published
        age = stream.times.take_recent_p99_ms()
        return wire.StreamStatus(
            state=standing.state,
            reason=UNSET if standing.reason is None else standing.reason.value,
            fps=round(new * NS_PER_S / passed_ns, 2),
            age_p99_ms=UNSET if age is None else round(age, 3),
            seq=counts.published,
            decoded=counts.decoded,
            dropped=sum(counts.dropped.values()),
        )


def sentence(status: wire.StatusMessage, stuck: Sequence[str]) -> str:
    """The status in one line for people: what runs, which streams do not, and which threads hang (`stuck`)."""
    live = [stream for stream in status.streams.values() if stream.state == "live"]
    text = (
        f"{len(live)} of {len(status.streams)} streams live, {sum(one.fps for one in live):.1f} results/s, "
        f"{status.model} on {status.provider}"
    )
    down = [
        f"{name} {stream.state}" + ("" if stream.reason is UNSET else f" ({stream.reason})")
        for name, stream in status.streams.items()
        if stream.state != "live"
    ]
    if stuck:
        text = f"hanging: {', '.join(stuck)}; {text}"
    if down:
        more = f" and {len(down) - _NAMED} more" if len(down) > _NAMED else ""
        text += f"; not live: {', '.join(down[:_NAMED])}{more}"
    return text
