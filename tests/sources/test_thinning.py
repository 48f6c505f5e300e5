"""What is left out before decoding when fewer pictures are wanted than come."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd.core.timing import NS_PER_S
from streamd.sources import Reader, SourceRequest, open_source
from streamd.sources.thinning import OBSERVED_S, Thinning
from tests.support.clips import Clip, make, number_in
from tests.support.rtsp_camera import Camera, Stream, units_of

RATE = 25.0
GOP = 5
FRAMES = 100


def passed(thinning: Thinning, *, gop: int, rate: float, pictures: range) -> list[int]:
    """Which of these pictures, of a stream with a keyframe every `gop` of them, are decoded."""
    return [
        number for number in pictures if not thinning.skips(number % gop == 0, int(number * NS_PER_S / rate))
    ]


def test_all_pictures_pass_when_all_are_wanted() -> None:
    assert passed(Thinning(), gop=10, rate=30, pictures=range(300)) == list(range(300))


def test_keyframes_alone_pass_when_they_come_often_enough() -> None:
    thinning = Thinning()
    thinning.max_fps = 1
    kept = passed(thinning, gop=30, rate=30, pictures=range(900))
    proven = int(30 * OBSERVED_S)
    assert kept == [*range(proven + 1), *range(proven + 30, 900, 30)]
    assert thinning.interval_s == 1


@pytest.mark.parametrize("seconds", [(31, 31.4, 32, 32.8, 33.2), (31, 31, 31.2, 31.2, 31.2)])
def test_keyframes_that_come_besides_are_not_taken_for_the_usual_pace(seconds: tuple[float, ...]) -> None:
    """Cuts in the scene, a burst after the network was held up; the usual pace is one keyframe in ten seconds."""
    thinning = Thinning()
    thinning.max_fps = 1
    moments = [(number / 25, number % 250 == 0) for number in range(1500)]
    moments = sorted([*moments, *((second, True) for second in seconds)])
    assert not any(thinning.skips(begins, int(at_s * NS_PER_S)) for at_s, begins in moments)


def test_it_begins_anew_after_a_keyframe_that_came_late() -> None:
    thinning = Thinning()
    thinning.max_fps = 1
    passed(thinning, gop=25, rate=25, pictures=range(500))
    assert thinning.interval_s == 1
    late = passed(thinning, gop=25, rate=25, pictures=range(550, 1200))
    proven = 550 + int(25 * OBSERVED_S)
    assert late == [*range(550, proven + 1), *range(proven + 25, 1200, 25)]


def test_of_many_keyframes_only_those_that_are_due_pass() -> None:
    """As of MJPEG, where each picture is one."""
    thinning = Thinning()
    thinning.max_fps = 5
    kept = passed(thinning, gop=1, rate=30, pictures=range(300))
    assert len(kept) == pytest.approx(5 * 10, abs=4)
    assert max(later - earlier for earlier, later in itertools.pairwise(kept[4:])) <= 7


@pytest.mark.parametrize("max_fps", [2.0, 15.0])
def test_nothing_is_left_out_when_keyframes_are_too_rare(max_fps: float) -> None:
    thinning = Thinning()
    thinning.max_fps = max_fps
    assert passed(thinning, gop=30, rate=30, pictures=range(300)) == list(range(300))


def test_a_late_keyframe_and_another_wish_end_it() -> None:
    thinning = Thinning()
    thinning.max_fps = 1
    passed(thinning, gop=25, rate=25, pictures=range(500))
    assert thinning.interval_s == 1
    assert thinning.skips(False, 20 * NS_PER_S)
    assert not thinning.skips(True, 22 * NS_PER_S)
    assert thinning.interval_s is None
    assert not thinning.skips(False, 22 * NS_PER_S + 1)

    again = Thinning()
    again.max_fps = 1
    passed(again, gop=25, rate=25, pictures=range(500))
    again.max_fps = None
    assert again.skips(False, 20 * NS_PER_S)  # nothing can be decoded before the next keyframe
    assert not again.skips(True, 20 * NS_PER_S + 1)
    assert not again.skips(False, 20 * NS_PER_S + 2)


def test_what_is_shown_before_the_keyframe_that_ends_it_is_torn() -> None:
    thinning = Thinning()
    assert not thinning.skips(True, 0, 0)
    assert not thinning.torn(-1)
    thinning.max_fps = 2
    thinning.observed_s = 0
    for second in range(1, 5):
        thinning.skips(True, second * NS_PER_S // 2, second * 10)
    assert thinning.skips(False, 3 * NS_PER_S, 60)
    assert not thinning.skips(True, 3 * NS_PER_S + 1, 70)
    assert [thinning.torn(pts) for pts in (69, 70, None)] == [True, False, False]
    assert not thinning.skips(True, 4 * NS_PER_S, 80)
    assert not thinning.torn(79)
    assert thinning.left_out == 1


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Camera]:
    path = make(tmp_path_factory.mktemp("thin") / "numbers.mp4", Clip(frames=FRAMES, gop=GOP))
    with Camera(units_of(path), Stream(rate=RATE)) as running:
        yield running


@pytest.mark.long
@pytest.mark.parametrize("reader", [Reader.OWN, Reader.LIBAV])
def test_a_camera_costs_its_keyframes_only_and_all_again_when_asked(camera: Camera, reader: Reader) -> None:
    request = SourceRequest(camera.url, reader=reader)
    with open_source(request, threading.Event()) as source:
        source.thinning.max_fps = 0.6 * RATE / GOP
        source.thinning.observed_s = 1
        thin, all_again = [], []
        for picture in source.pictures():
            assert not picture.corrupt
            number = number_in(picture.planes[0])
            assert number is not None
            if source.thinning.max_fps is None:
                all_again.append(number)
            elif source.undecoded["rate_limit"] >= 6 * (GOP - 1):
                source.thinning.max_fps = None
            elif source.thinning.interval_s is not None:
                thin.append(number)
            if len(all_again) >= 4 * GOP:
                break
    assert len(thin) >= 3
    # The first may be of the group in which it began.
    assert all(number % GOP == 0 for number in thin[1:])
    begin = next(index for index, number in enumerate(all_again) if number % GOP == 0)
    whole = all_again[begin:]
    assert whole == [(whole[0] + step) % FRAMES for step in range(len(whole))]


@pytest.mark.long
def test_pictures_that_refer_to_what_was_left_out_are_not_trusted(tmp_path: Path) -> None:
    """Pictures that are shown before a keyframe and sent after it (an open group): the first ones after thinning."""
    options = {"x264-params": "open-gop=1:bframes=2:b-adapt=0:keyint=6:min-keyint=6:scenecut=0"}
    path = make(tmp_path / "open.mp4", Clip(frames=60, gop=6, b_frames=2, options=options))
    with Camera(units_of(path), Stream(rate=RATE)) as camera:
        request = SourceRequest(camera.url, reader=Reader.OWN)
        with open_source(request, threading.Event()) as source:
            source.thinning.max_fps = 0.6 * RATE / 6
            source.thinning.observed_s = 1
            wrong, right = 0, 0
            for picture in source.pictures():
                if source.undecoded["rate_limit"] >= 5:
                    source.thinning.max_fps = None
                if picture.corrupt:
                    continue
                number = number_in(picture.planes[0])
                if picture.pts is not None and number == round(picture.pts * RATE) % 60:
                    right += 1
                else:
                    wrong += 1
                if source.thinning.max_fps is None and right >= 60:
                    break
    assert wrong == 0
