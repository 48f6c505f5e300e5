"""The page /metrics: the ledgers and the stage times as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamd import __version__
from streamd.core.timing import Stage
from streamd.service.monitoring import Vitals

# Few buckets: 64 streams with 6 stages each must be scraped in a few milliseconds.
_BOUNDS_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


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


class Exposition:
    """The page, as it is each time that it is asked for."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, vitals: Vitals) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StreamCollector(vitals))

    def page(self) -> bytes:
        """Any thread, one at a time."""
        return generate_latest(self._registry)
