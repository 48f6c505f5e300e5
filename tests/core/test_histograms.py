from __future__ import annotations

import random

import numpy as np
import pytest

from streamd.core.histograms import Histogram, StageTimes
from streamd.core.timing import Stage, Stamps


def test_a_quantile_is_at_most_nine_percent_off() -> None:
    rng = random.Random(1)
    values = sorted(int(rng.lognormvariate(15, 2)) + 1000 for _ in range(5000))
    histogram = Histogram()
    histogram.add(np.array(values[:1000]))
    histogram.add(np.array(values[1000:]))
    for q in (0.01, 0.5, 0.95, 0.99):
        exact = values[int(q * len(values))] / 1e6
        assert histogram.quantile_ms(q) == pytest.approx(exact, rel=0.1)
    assert histogram.quantile_ms(1.0) == values[-1] / 1e6


def test_an_empty_histogram_knows_nothing() -> None:
    assert Histogram().quantile_ms(0.5) is None
    assert Histogram().mean_ms() is None


def test_cumulative_counts_never_fall_and_end_at_all() -> None:
    histogram = Histogram()
    histogram.add(np.array([0, 1_500, 2_000_000, 90_000_000_000_000]))
    counts = histogram.at_most([1e-6, 1e-5, 0.005, 1e9])
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[2] == 3


def test_stage_times_take_every_stage() -> None:
    times = StageTimes()
    times.add(Stamps(received=0, decoded=2_000_000, prepared=3_000_000, run=4_000_000, inferred=8_000_000,
                     posted=9_000_000, encoded=9_500_000))  # fmt: skip
    assert times.mean_ms(Stage.DECODE) == 2.0
    assert times.mean_ms(Stage.TOTAL) == 9.5


def test_every_frame_counts_whenever_somebody_asks() -> None:
    times = StageTimes()
    for frame in range(1, 600):
        times.add(Stamps(received=0, encoded=frame * 1_000_000))
        if frame % 7 == 0:
            counts, count, sum_s = times.cumulative(Stage.TOTAL, [0.0001, 100.0])
            assert (counts, count) == ([0, frame], frame)
            assert sum_s == pytest.approx(frame * (frame + 1) / 2000)
    assert times.take_recent_p99_ms() == pytest.approx(593, rel=0.1)
    assert times.take_recent_p99_ms() is None
