"""`test:` sources: numbered pictures, and every fault of the schedule."""

from __future__ import annotations

import threading
import time
from itertools import islice, pairwise

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.core.picture import Picture
from streamd.sources import SourceRequest, open_source
from streamd.sources.synthetic.plan import plan_of
from tests.support.clips import number_in


def read(url: str, most: int = 1000) -> tuple[list[Picture], SourceError | None]:
    found: list[Picture] = []
    with open_source(SourceRequest(url), threading.Event()) as source:
        assert source.live
        try:
            found.extend(islice(source.pictures(), most))
        except SourceError as error:
            return found, error
    return found, None


def numbers(pictures: list[Picture]) -> list[int | None]:
    return [number_in(picture.planes[0]) for picture in pictures]


@pytest.mark.parametrize("size", ["640x360", "1920x1080", "16x16", "100x62"])
def test_pictures_carry_their_numbers(size: str) -> None:
    pictures, error = read(f"test:?size={size}&frames=30&pace=fast&gop=10")
    assert error is not None
    assert error.reason is Reason.EOF
    assert numbers(pictures) == list(range(30))
    width, height = map(int, size.split("x"))
    for number, picture in enumerate(pictures):
        assert (picture.width, picture.height) == (width, height)
        assert [plane.shape for plane in picture.planes] == [
            (height, width),
            *[(height // 2, width // 2)] * 2,
        ]
        assert picture.pts == pytest.approx(number / 25)
        assert picture.keyframe == (number % 10 == 0)
        assert not picture.corrupt


@pytest.mark.slow
def test_the_pace_is_kept() -> None:
    started = time.monotonic()
    pictures, _ = read("test:?rate=100", 51)
    assert 0.45 < time.monotonic() - started < 5
    arrivals = [picture.received_ns for picture in pictures]
    assert arrivals == sorted(arrivals)


def test_faults_come_when_they_are_due() -> None:
    url = "test:?rate=100&gop=10&pace=fast&drop=0.1/5&corrupt=0.22/2"
    url += "&resize=0.4/320x240&clockjump=0.5/-60&error=0.6/tls"
    pictures, error = read(url)
    assert error is not None
    assert error.reason is Reason.TLS
    assert len(pictures) == 60
    drawn = numbers(pictures)
    assert drawn[:12] == [*range(10), 15, 16]
    # Damaged twice, and not trusted until the next keyframe, which is number 30.
    corrupt = [number for number, picture in enumerate(pictures) if picture.corrupt]
    assert corrupt == [22, 23, 24]
    assert drawn[25] == 30
    assert [picture.width for picture in pictures] == [640] * 40 + [320] * 20
    jumps = [b.pts - a.pts for a, b in pairwise(pictures)]  # type: ignore[operator]
    assert jumps[49] == pytest.approx(-59.99)
    assert all(jump == pytest.approx(0.01) for number, jump in enumerate(jumps) if number not in (9, 49))


@pytest.mark.long
def test_a_stall_and_a_burst() -> None:
    pictures, error = read("test:?rate=50&stall=0.2/1&burst=1.6/10&end=2")
    assert error is not None
    assert error.reason is Reason.EOF
    gaps = [(after.received_ns - before.received_ns) / 1e9 for before, after in pairwise(pictures)]
    assert numbers(pictures) == list(range(len(pictures)))
    assert max(gaps[8:11]) > 0.9
    burst = next(number for number, gap in enumerate(gaps) if number > 15 and gap > 0.15)
    assert max(gaps[burst + 1 : burst + 9]) < 0.1


def test_a_stop_ends_a_stall() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with open_source(SourceRequest("test:?stall=0/3600"), stop) as source:
        assert list(source.pictures()) == []
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("part", "hint"),
    [
        ("bars", "question mark"),
        ("?size=640", "640x360"),
        ("?size=641x360", "both even"),
        ("?rate=0", "above 0"),
        ("?rate=-1", "above 0"),
        ("?rate=1e3", "above 0"),
        ("?gop=0", "keyframe"),
        ("?frames=x", "ends after"),
        ("?pace=slow", "pace=real"),
        ("?nothing=1", "there are size"),
        ("?stall=5", "name=AT/WHAT"),
        ("?stall=-1/5", "name=AT/WHAT"),
        ("?end=1/2", "name=AT/WHAT"),
        ("?error=1/boredom", "name=AT/WHAT"),
        ("?resize=1/0x0", "name=AT/WHAT"),
        ("?drop=1/2,", "name=AT/WHAT"),
    ],
)
def test_addresses_that_cannot_be(part: str, hint: str) -> None:
    with pytest.raises(SourceError, match=hint) as caught:
        plan_of(f"test:{part}")
    assert "\n" not in str(caught.value)
