"""A reader whose pictures are not taken in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from streamd.sources import Reader, SourceRequest, Transport, open_source
from tests.support.clips import Clip, make, number_in
from tests.support.rtsp_camera import Camera, Stream, units_of

RATE = 50.0
FRAMES = 100


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Camera]:
    path = make(tmp_path_factory.mktemp("behind") / "numbers.mp4", Clip(frames=FRAMES, gop=25))
    with Camera(units_of(path), Stream(rate=RATE)) as running:
        yield running


@pytest.mark.long
@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UDP])
def test_old_pictures_are_left_out_and_counted(camera: Camera, transport: Transport) -> None:
    request = SourceRequest(camera.url, reader=Reader.OWN, transport=transport)
    with open_source(request, threading.Event()) as source:
        ages, numbers = [], []
        for picture in source.pictures():
            ages.append((time.monotonic_ns() - picture.received_ns) / 1e9)
            numbers.append(number_in(picture.planes[0]))
            if not picture.corrupt:
                assert picture.pts is not None
                assert numbers[-1] == round(picture.pts * RATE) % FRAMES
            time.sleep(5 / RATE)  # five times too slow
            if len(ages) >= 60:
                break
        assert source.undecoded["behind"] > 100
    # A keyframe comes every half second: without leaving out, the last would be 5 s old.
    assert max(ages) < 3


@pytest.mark.long
def test_where_nothing_may_be_left_out_the_reader_waits(camera: Camera) -> None:
    request = SourceRequest(camera.url, reader=Reader.OWN, transport=Transport.TCP, every=True)
    with open_source(request, threading.Event()) as source:
        pts = []
        for picture in source.pictures():
            pts.append(picture.pts or 0.0)
            if len(pts) < 20:
                time.sleep(5 / RATE)
            if len(pts) >= 150:
                break
        assert source.undecoded["behind"] == 0
    assert all(later - earlier == pytest.approx(1 / RATE, abs=1e-4) for earlier, later in pairwise(pts))
