"""A short film that a camera of the tests plays, and what has to come out of a reader."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from streamd.core.errors import SourceError
from streamd.sources import Transport
from tests.support.rtsp_camera import Camera, Stream, Units
from tests.support.rtsp_reading import Seen, fault_of

FRAMES, GOP = 36, 12
FAST = Stream(mtu=200, pace=False, loop=False)
PACED = Stream(mtu=200, rate=200, loop=False)
LONG = Stream(mtu=200, rate=100)
TCP, UDP = Transport.TCP, Transport.UDP
SLACK_S = 4.0
"""Over the time-out, for a machine that is busy."""


@dataclass(frozen=True)
class Film:
    units: Units
    pictures: list[bytes]


def right(seen: Seen, film: Film) -> None:
    """All pictures are there, bit for bit."""
    assert len(seen.pictures) == len(film.pictures)
    wrong = [
        index
        for index, pair in enumerate(zip(seen.pictures, film.pictures, strict=True))
        if pair[0] != pair[1]
    ]
    assert wrong == []


def trusted_are_right(seen: Seen, film: Film) -> None:
    """Pictures that were not whole may be missing; what is not called corrupt is right, bit for bit."""
    assert len(film.pictures) - 6 <= len(seen.pictures) <= len(film.pictures)
    assert sum(not corrupt for corrupt in seen.corrupt) >= GOP
    for picture, corrupt, pts in zip(seen.pictures, seen.corrupt, seen.pts, strict=True):
        assert pts is not None
        assert corrupt or picture == film.pictures[round(pts * film.units.rate)]


def one_line(fault: SourceError) -> SourceError:
    text = str(fault)
    assert text.isprintable(), text
    assert 20 < len(text) < 400
    assert "secret" not in text
    return fault


def failing(camera: Camera, **options: Any) -> SourceError:
    """Its fault, which came in time."""
    timeout_s = options.setdefault("timeout_s", 0.5)
    started = time.monotonic()
    fault = one_line(fault_of(camera.url, **options))
    assert time.monotonic() - started < timeout_s + SLACK_S
    return fault
