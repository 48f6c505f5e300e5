"""The metrics' text against the library's own writer: the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streamd.service.exposition import Exposition

VALUES = [
    0,
    1,
    -1,
    99_999,
    100_000,
    123_456_789,
    2**53,
    0.5,
    1e-9,
    1e22,
    123_456.75,
    math.inf,
    -math.inf,
    math.nan,
]
NAMES = ["cam", "", 'a"b', "back\\slash", "new\nline", "tür", "名", "\\n", "{}", "a,b=c"]


class Everything(Collector):
    """Each kind of metric with each kind of value and of name."""

    def __init__(self, shift: int = 0) -> None:
        self._shift = shift

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily(
            "frames_decoded", "A help\nof two \\ lines.", labels=["stream", "reason"]
        )
        gauge = GaugeMetricFamily("up", 'Without labels, and a "quote".')
        for index, value in enumerate(VALUES):
            name = NAMES[(index + self._shift) % len(NAMES)]
            counter.add_metric([name, f"r{index}"], value)
        gauge.add_metric([], 1 + self._shift)
        histogram = HistogramMetricFamily("stage_seconds", "", labels=["stage", "a"])
        for name in NAMES:
            histogram.add_metric([name, "z"], [("0.5", 3), ("+Inf", 4 + self._shift)], 0.25)
        yield from (counter, gauge, histogram, GaugeMetricFamily("empty", "Nothing in it."))


@pytest.fixture
def exposition() -> Exposition:
    return Exposition()


def test_the_same_bytes_as_the_library_writes(exposition: Exposition) -> None:
    for shift in (0, 1, 0, 3):  # what is kept of one page must fit the next
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Everything(shift))
        expected = generate_latest(registry)
        assert exposition.text(Everything(shift).collect()) == expected
        assert len(list(text_string_to_metric_families(expected.decode()))) == 4


def test_the_beginnings_it_keeps_are_bounded(exposition: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.service.exposition._MOST_KEPT", 10)

    def gauges(first: int) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("up", "", labels=["stream"])
        for number in range(first, first + 8):
            gauge.add_metric([f"s{number}"], number)
        yield gauge

    for first in range(0, 80, 8):
        page = exposition.text(gauges(first))
        assert page.decode().count("up{") == 8
        assert len(exposition._beginnings) <= 18
