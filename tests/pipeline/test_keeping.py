from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

from streamd.core.picture import Picture
from streamd.core.timing import NS_PER_MS, NS_PER_S
from streamd.models.contract import Array, Placement
from streamd.pipeline.decoder import EveryPicture, Feed
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.lane import Frame
from streamd.pipeline.ring import Rings
from streamd.sources import SourceRequest, open_source
from tests.support.frames import lane_of

FRAME_NS = NS_PER_S // 25


class Blank:
    """Prepares nothing."""

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement:
        return Placement(1, 1, 0, 0)


def decoded(keeping: Keeping, frames: int) -> list[Frame]:
    """What a decoder with room for everything makes of a second's worth of pictures, 40 ms apart."""
    lane, rings = lane_of("a", slots=frames), Rings()
    lane.keeping = keeping
    feed = Feed(lane, rings.add(lane, frames), lambda _: Blank(), EveryPicture(), "arrival")
    with open_source(
        SourceRequest(f"test:?size=16x16&frames={frames + 1}&pace=fast"), threading.Event()
    ) as source:
        for number, picture in zip(range(frames), source.pictures(), strict=False):
            feed.accept(replace(picture, received_ns=NS_PER_S + number * FRAME_NS), threading.Event())
    return rings.take(frames, 0) or []


def kept(frames: list[Frame]) -> list[int]:
    return [frame.number for frame in frames if frame.picture is not None]


def test_no_frame_keeps_its_picture_while_nobody_wants_one() -> None:
    assert kept(decoded(Keeping(2), 20)) == []
    assert kept(decoded(Keeping(), 20)) == []


def test_a_run_over_a_file_keeps_all() -> None:
    frames = decoded(Keeping(wanted=True), 20)
    assert kept(frames) == list(range(20))
    assert all(frame.lane.keeping.take(frame.stamps.received) for frame in frames)


def test_frames_keep_theirs_until_one_has_come_to_a_result() -> None:
    keeping = Keeping(5, wanted=True)
    first, *others = decoded(keeping, 4)
    assert kept([first, *others]) == [0, 1, 2, 3]
    # The first was dropped on the way: the second goes on, and the others do not.
    assert [keeping.take(frame.stamps.received) for frame in others] == [True, False, False]
    # From then on each 200 ms one is due.
    later = [others[0].stamps.received + n * FRAME_NS for n in range(1, 11)]
    assert [n for n, at in enumerate(later, 1) if keeping.due(at)] == [5, 6, 7, 8, 9, 10]
    assert [n for n, at in enumerate(later, 1) if keeping.take(at)] == [5, 10]


def test_pictures_are_as_even_as_they_come() -> None:
    keeping = Keeping(2, wanted=True)
    taken = [at for at in range(NS_PER_S, 11 * NS_PER_S, 33 * NS_PER_MS) if keeping.take(at)]
    assert len(taken) in (20, 21)
    gaps = [(after - before) / NS_PER_MS for before, after in pairwise(taken)]
    assert min(gaps) > 450
    assert max(gaps) < 550


def test_who_comes_back_is_served_at_once() -> None:
    keeping = Keeping(0.1, wanted=True)
    assert keeping.take(NS_PER_S)
    keeping.wanted = False
    assert not keeping.due(60 * NS_PER_S)
    keeping.wanted = True
    assert keeping.take(60 * NS_PER_S)
    assert not keeping.take(61 * NS_PER_S)
