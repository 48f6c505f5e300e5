"""No more decoders at a time in Python than there is room for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from streamd.core.cores import usable_cores
from streamd.core.picture import Layout, Matrix, Picture
from streamd.models.contract import Array, Placement
from streamd.pipeline.decoder import EveryPicture, Feed
from streamd.pipeline.ring import Rings
from tests.support.frames import lane_of

_DECODERS = 4 * usable_cores()


class CountingPreparer:
    """Writes nothing, takes a moment, and knows how many of its kind are at it."""

    lock = threading.Lock()
    inside = most_inside = 0

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement:
        kind = type(self)
        with kind.lock:
            kind.inside += 1
            kind.most_inside = max(kind.most_inside, kind.inside)
        time.sleep(0.002)
        with kind.lock:
            kind.inside -= 1
        return Placement(1, 1, 0, 0)


@pytest.fixture
def preparer() -> type[CountingPreparer]:
    CountingPreparer.inside = CountingPreparer.most_inside = 0
    return CountingPreparer


def picture_of(width: int, height: int) -> Picture:
    now = time.monotonic_ns()
    plane = np.zeros((height, width), np.uint8)
    return Picture(
        (plane,),
        Layout.GRAY,
        Matrix.BT601,
        True,
        0,
        width,
        height,
        None,
        None,
        now,
        1,
        None,
        True,
        False,
        None,
    )


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(("size", "at_once"), [((64, 64), 1), ((640, 360), 1), ((1280, 720), usable_cores())])
def test_so_many_decoders_prepare_at_a_time(
    preparer: type[CountingPreparer], size: tuple[int, int], at_once: int, live: bool
) -> None:
    rings, stop = Rings(), threading.Event()
    lanes = [lane_of(str(number), live=live) for number in range(_DECODERS)]
    feeds = [
        Feed(lane, rings.add(lane, 16), lambda target: preparer(), EveryPicture(), "arrival")
        for lane in lanes
    ]

    def decode(feed: Feed) -> None:
        for _ in range(10):
            feed.accept(picture_of(*size), stop)

    threads = [threading.Thread(target=decode, args=(feed,)) for feed in feeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert preparer.most_inside == at_once
    assert len(rings.take(1000, 1) or []) == 10 * _DECODERS


def test_a_decoder_that_waits_for_room_keeps_no_other_from_its_picture(
    preparer: type[CountingPreparer],
) -> None:
    rings, stop = Rings(), threading.Event()
    blocked, free = lane_of("blocked", live=False), lane_of("free", live=False)
    feeds = [
        Feed(lane, rings.add(lane, 1), lambda target: preparer(), EveryPicture(), "file")
        for lane in (blocked, free)
    ]
    small = picture_of(64, 64)
    feeds[0].accept(small, stop)
    waiting = threading.Thread(target=lambda: feeds[0].accept(small, stop))
    waiting.start()
    while not feeds[0].waits_for_room:
        time.sleep(0.002)
    other = threading.Thread(target=lambda: feeds[1].accept(small, stop), daemon=True)
    other.start()
    other.join(20)
    passed = not other.is_alive()
    rings.close(drain=False)
    waiting.join(20)
    assert passed
    assert not waiting.is_alive()
    assert free.ledger.snapshot().decoded == 1
