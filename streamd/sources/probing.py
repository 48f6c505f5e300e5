"""What a source really delivers, measured on its first seconds: `streamd probe`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from streamd.core.errors import Reason, SourceError
from streamd.core.picture import Picture
from streamd.sources import open_source
from streamd.sources.address import scheme_of, shown
from streamd.sources.source import Source, SourceRequest

_MEASURE_S = 3.0
_MEASURE_FRAMES = 100
_KEYFRAME_S = 10.0
"""How long to wait for a second keyframe, beyond which the interval stays unknown."""


class Authentication(StrEnum):
    """What came of user and password; a refusal is a SourceError with the reason `auth`."""

    NOT_NEEDED = "not needed"
    """None were given, and the source opened."""
    ACCEPTED = "accepted"
    """They were given, and the source opened; it may not have asked for them."""
    NONE = "none"
    """This kind of source knows no passwords."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found. Times are in seconds of the machine's clock unless they say media.

    announced_rate: what the container or description says. rate: pictures per second as measured: of media
    time for files, of arrival for live sources; None with less than two pictures.
    keyframe_interval_s, keyframe_interval_frames: between the first two keyframes, in the same time; None
    when no second one came. first_picture_s: from the start of opening to the first decoded picture.
    """

    codec: str
    profile: str | None
    width: int
    height: int
    rotation: int
    sar: Fraction | None
    live: bool
    announced_rate: float | None
    rate: float | None
    keyframe_interval_s: float | None
    keyframe_interval_frames: int | None
    first_picture_s: float
    pictures: int
    authentication: Authentication
    duration_s: float | None
    notes: tuple[str, ...]


def probe(request: SourceRequest, stop: threading.Event) -> Probe:
    """Open a source, read about three seconds or 100 pictures of it, and say what came.

    Reads on for up to ten seconds until a second keyframe. Blocks meanwhile. Raises SourceError when the
    source does not open or no picture comes; what ends after its first picture is no error here.
    """
    started = time.monotonic()
    times: list[float] = []
    keyframes: list[int] = []
    first: Picture | None = None
    first_picture_s = 0.0
    with open_source(request, stop) as source:
        try:
            for picture in source.pictures():
                if first is None:
                    first, first_picture_s = picture, time.monotonic() - started
                times.append(_time_of(picture, source))
                if picture.keyframe:
                    keyframes.append(len(times) - 1)
                if _enough(times, keyframes):
                    break
        except SourceError:
            if first is None:
                raise
        if first is None:
            raise SourceError(Reason.TIMEOUT, f"{shown(request.url)}: stopped before a picture came")
        return Probe(
            codec=source.codec,
            profile=source.profile,
            width=first.width,
            height=first.height,
            rotation=first.rotation,
            sar=first.sar,
            live=source.live,
            announced_rate=source.rate,
            rate=_rate(times),
            keyframe_interval_s=times[keyframes[1]] - times[keyframes[0]] if len(keyframes) > 1 else None,
            keyframe_interval_frames=keyframes[1] - keyframes[0] if len(keyframes) > 1 else None,
            first_picture_s=first_picture_s,
            pictures=len(times),
            authentication=_authentication(request),
            duration_s=source.duration_s,
            notes=source.notes,
        )


def _time_of(picture: Picture, source: Source) -> float:
    # A file is read as fast as it can be: only its own time stamps tell its rate.
    if source.live or picture.pts is None:
        return picture.received_ns / 1e9
    return picture.pts


def _enough(times: list[float], keyframes: list[int]) -> bool:
    span_s = max(times) - times[0]
    measured = span_s >= _MEASURE_S or len(times) >= _MEASURE_FRAMES
    return measured and (len(keyframes) > 1 or span_s >= _KEYFRAME_S or len(times) >= 4 * _MEASURE_FRAMES)


def _rate(times: list[float]) -> float | None:
    span_s = max(times) - min(times)
    return (len(times) - 1) / span_s if span_s > 0 else None


def _authentication(request: SourceRequest) -> Authentication:
    if scheme_of(request.url) in ("file", "v4l2"):
        return Authentication.NONE
    return Authentication.ACCEPTED if request.username is not None else Authentication.NOT_NEEDED
