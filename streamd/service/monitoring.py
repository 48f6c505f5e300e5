"""What monitoring can ask over HTTP: /metrics, /healthz, /readyz, /streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from streamd.bus.pictures import PicturePublisher
from streamd.core.timing import NS_PER_S, now_ns
from streamd.models.detector import Detector
from streamd.service.log_output import LogOutput
from streamd.service.pages import PageServer
from streamd.service.streams import Stream

if TYPE_CHECKING:
    from streamd.service.metrics import Exposition

_STUCK_NS = 10 * NS_PER_S
"""The worker and the publisher turn at least each second; after ten without a turn they hang."""


@dataclass(slots=True)
class Vitals:
    """What the endpoint reads of the running daemon; it changes nothing. Written by no other thread but noted."""

    streams: Callable[[], Mapping[str, Stream]]
    detector: Callable[[], Detector]
    precision: str
    redact: Callable[[str], str]
    beats: Mapping[str, Callable[[], int]]
    """Thread name to the monotonic time of its last turn."""
    log: LogOutput = field(default_factory=LogOutput)
    pictures: PicturePublisher | None = None
    """Sends pictures; None when that is off."""
    ready: Event = field(default_factory=Event)
    batches: dict[int, int] = field(default_factory=dict)
    """How many batches of each size ran; written by the worker."""

    def count_batch(self, size: int) -> None:
        """One batch ran; for the worker."""
        self.batches[size] = self.batches.get(size, 0) + 1

    def stuck(self) -> list[str]:
        """Threads that have not turned for 10 s."""
        now = now_ns()
        return [name for name, beat_ns in self.beats.items() if now - beat_ns() > _STUCK_NS]


class MonitoringServer:
    """The pages; `run` is the body of thread `http`."""

    def __init__(self, listen: str, vitals: Vitals) -> None:
        """Binds. Raises OutputError."""
        self._vitals = vitals
        self._exposition: Exposition | None = None
        self._server = PageServer(
            listen,
            {
                "/metrics": self._metrics,
                "/healthz": self._health,
                "/readyz": self._ready,
                "/streams": self._streams,
            },
        )
        self.port = self._server.port
        """The port bound to."""

    def run(self, stop: Event) -> None:
        """Answer until `stop` is set."""
        self._server.run(stop)

    def _metrics(self) -> tuple[int, str, bytes]:
        if self._exposition is None:
            # Its library is heavy, and no start needs to wait for it.
            from streamd.service.metrics import Exposition

            self._exposition = Exposition(self._vitals)
        return 200, self._exposition.content_type, self._exposition.page()

    def _health(self) -> tuple[int, str, bytes]:
        stuck = self._vitals.stuck()
        if stuck:
            return 503, "text/plain", f"stuck: {', '.join(stuck)}\n".encode()
        return 200, "text/plain", b"ok\n"

    def _ready(self) -> tuple[int, str, bytes]:
        ready = self._vitals.ready.is_set()
        return (200, "text/plain", b"ready\n") if ready else (503, "text/plain", b"starting\n")

    def _streams(self) -> tuple[int, str, bytes]:
        states = {}
        for name, stream in self._vitals.streams().items():
            standing, counts = stream.standing, stream.lane.ledger.snapshot()
            states[name] = {
                "state": standing.state,
                "since_s": round((now_ns() - standing.since_ns) / NS_PER_S, 1),
                **({"reason": standing.reason.value} if standing.reason else {}),
                **({"detail": self._vitals.redact(standing.detail)} if standing.detail else {}),
                "decoded": counts.decoded,
                "published": counts.published,
                "dropped": {reason.value: n for reason, n in counts.dropped.items() if n},
                "in_flight": counts.in_flight,
            }
        return 200, "application/json", json.dumps(states, indent=1).encode() + b"\n"
