"""What monitoring can ask over HTTP: /metrics, /healthz, /readyz, /streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Event

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamd import __version__
from streamd.bus.pictures import PicturePublisher
from streamd.core.timing import NS_PER_S, Stage, now_ns
from streamd.models.detector import Detector
from streamd.service.log_output import LogOutput
from streamd.service.pages import PageServer
from streamd.service.streams import Stream

# Few buckets: 64 streams with 6 stages each must be scraped in a few milliseconds.
_BOUNDS_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
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


class StreamCollector(Collector):
    """Reads the ledgers at each scrape: one consistent snapshot a stream."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._pictures()
        yield from self._histograms()
        log = self._vitals.log
        lost = CounterMetricFamily("streamd_log_lines_lost", "Log lines not written.", labels=["reason"])
        lost.add_metric(["unwritable"], log.unwritable)
        lost.add_metric(["flood"], log.flood)
        yield lost
        info = GaugeMetricFamily("streamd_build_info", "The running version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        model = GaugeMetricFamily(
            "streamd_model_info", "The running model.", labels=["model", "provider", "precision"]
        )
        detector = self._vitals.detector()
        model.add_metric([detector.name, detector.provider, self._vitals.precision], 1)
        yield model

    def _counters(self) -> Iterator[Metric]:
        by_stream = ["stream"]
        decoded = CounterMetricFamily("streamd_frames_decoded", "Frames decoded.", labels=by_stream)
        published = CounterMetricFamily("streamd_results_published", "Results posted.", labels=by_stream)
        dropped = CounterMetricFamily(
            "streamd_frames_dropped", "Frames that came to no result.", labels=["stream", "reason"]
        )
        skipped = CounterMetricFamily(
            "streamd_packets_skipped", "Encoded pictures never decoded.", labels=["stream", "reason"]
        )
        lost = CounterMetricFamily("streamd_packets_lost", "Packets lost by the network.", labels=by_stream)
        in_flight = GaugeMetricFamily("streamd_frames_in_flight", "Frames on their way.", labels=by_stream)
        reconnects = CounterMetricFamily(
            "streamd_reconnects", "Attempts that ended.", labels=["stream", "reason"]
        )
        up = GaugeMetricFamily("streamd_stream_up", "1 while the stream is live.", labels=by_stream)
        for name, stream in self._vitals.streams().items():
            counts = stream.lane.ledger.snapshot()
            decoded.add_metric([name], counts.decoded)
            published.add_metric([name], counts.published)
            for reason, number in counts.dropped.items():
                dropped.add_metric([name, reason.value], number)
            reception = stream.reception()
            lost.add_metric([name], reception.lost_packets)
            for why, number in sorted(reception.undecoded.items()):
                skipped.add_metric([name, why], number)
            in_flight.add_metric([name], counts.in_flight)
            for cause, number in list(stream.reconnects.items()):
                reconnects.add_metric([name, cause.value], number)
            up.add_metric([name], stream.standing.state == "live")
        yield from (decoded, published, dropped, skipped, lost, in_flight, reconnects, up)

    def _pictures(self) -> Iterator[Metric]:
        pictures = self._vitals.pictures
        if pictures is None:
            return
        sent = CounterMetricFamily("streamd_pictures_sent", "Pictures encoded and sent.", labels=["stream"])
        dropped = CounterMetricFamily(
            "streamd_pictures_dropped", "Pictures of results that were not sent.", labels=["stream", "reason"]
        )
        for name in self._vitals.streams():
            counts = pictures.counts(name)
            sent.add_metric([name], counts.sent)
            dropped.add_metric([name, "overtaken"], counts.overtaken)
            dropped.add_metric([name, "encoding"], counts.failed)
        yield from (sent, dropped)

    def _histograms(self) -> Iterator[Metric]:
        stages = HistogramMetricFamily(
            "streamd_stage_seconds", "Time a published frame spent in a stage.", labels=["stream", "stage"]
        )
        age = HistogramMetricFamily("streamd_frame_age_seconds", "Received to published.", labels=["stream"])
        for name, stream in self._vitals.streams().items():
            for stage in Stage:
                counts, count, total_s = stream.times.cumulative(stage, _BOUNDS_S)
                buckets = [(f"{bound:g}", n) for bound, n in zip(_BOUNDS_S, counts, strict=True)]
                buckets.append(("+Inf", count))
                if stage is Stage.TOTAL:
                    age.add_metric([name], buckets, total_s)
                else:
                    stages.add_metric([name, stage.value], buckets, total_s)
        yield from (stages, age, self._batch_sizes())

    def _batch_sizes(self) -> Metric:
        sizes = dict(self._vitals.batches)
        buckets = [
            (f"{bound}", sum(number for size, number in sizes.items() if size <= bound)) for bound in _BATCHES
        ]
        buckets.append(("+Inf", sum(sizes.values())))
        family = HistogramMetricFamily("streamd_batch_size", "Pictures in one inference.")
        family.add_metric([], buckets, sum(size * number for size, number in sizes.items()))
        return family


class MetricsServer:
    """The pages; `run` is the body of thread `http`."""

    def __init__(self, listen: str, vitals: Vitals) -> None:
        """Binds. Raises OutputError."""
        self._vitals = vitals
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StreamCollector(vitals))
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
        return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)

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
