"""Decoding: streamd's source, whose pictures are views with all that is known of them, and PyAV alone."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamd.sources import SourceRequest, open_source
from tests.benchmarks.conftest import Effort
from tests.support.turns import turns


def with_streamd(path: Path) -> int:
    with open_source(SourceRequest(str(path)), threading.Event()) as source:
        return sum(1 for _ in source.pictures())


def with_pyav(path: Path) -> int:
    """The loop that is as short as it can be: frames, and nothing known of them."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.benchmark(group="decode a 1080p clip, one thread")
@pytest.mark.parametrize("way", [with_streamd, with_pyav], ids=["streamd", "pyav"])
def test_decode(way: object, full_hd: Path, effort: Effort, benchmark: BenchmarkFixture) -> None:
    frames = effort.choose(100, 4)
    assert benchmark(way, full_hd) == frames
    benchmark.extra_info["frames"] = frames
    if way is with_streamd:
        benchmark.extra_info["pyav_takes_times_as_long"] = turns(
            lambda: with_streamd(full_hd), lambda: with_pyav(full_hd), effort.pairs
        )
