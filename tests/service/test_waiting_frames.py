"""How many frames of a stream wait while nobody takes them: by what its source is, found when it is open."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamd.models.contract import InputShape
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import unhurried
from streamd.service.loading import load
from streamd.service.streams import Stream, fast_ring
from tests.support.clips import Clip, make
from tests.support.daemon import write_config
from tests.support.frames import TINY, lane_of

_RING = 4


@pytest.mark.parametrize(
    ("pace", "intent", "waiting"),
    [
        ("fast", "auto", fast_ring(TINY.shape)),
        ("fast", "every", fast_ring(TINY.shape)),
        ("fast", "live", _RING),
        ("media", "every", _RING),
    ],
)
def test_only_a_file_that_is_read_as_fast_as_it_goes_has_a_larger_ring(
    tmp_path: Path, pace: str, intent: str, waiting: int
) -> None:
    clip = make(tmp_path / "a.mp4", Clip(width=64, height=64, frames=200, rate=500))
    streams = {"a": {"url": str(clip), "pace": pace, "intent": intent}}
    (config,) = load(write_config(tmp_path / "c.yaml", clip, streams)).streams
    rings, lane = Rings(), lane_of("a")
    stream = Stream(config, lane, rings, _RING, lambda *_: None)
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        # What is decoded and dropped tells of a ring that was full; one that waits for room decodes no further.
        while time.monotonic() < deadline and lane.ledger.snapshot().in_flight < waiting:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(stream._ring) == waiting
    finally:
        stream.leave()
        rings.close(drain=False)
        thread.join(20)
    assert not thread.is_alive()
    counts = lane.ledger.snapshot()
    assert counts.decoded == sum(counts.dropped.values())


def test_more_may_wait_of_what_is_small() -> None:
    def shape(side: int, kind: str) -> InputShape:
        return InputShape("images", side, side, True, np.dtype(kind), None)

    assert unhurried(shape(64, "uint8")) == 64
    assert fast_ring(shape(64, "uint8")) == 16
    assert fast_ring(shape(320, "uint8")) == 13
    assert unhurried(shape(640, "float32")) == 8
