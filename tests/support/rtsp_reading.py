"""What comes out of an RTSP address: its pictures as bytes, or why there are none."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from streamd.core.errors import SourceError
from streamd.core.picture import Picture
from streamd.sources import Reader, SourceRequest, open_source


@dataclass
class Seen:
    """Pictures until the end, which every live stream has: `fault`."""

    pictures: list[bytes] = field(default_factory=list)
    corrupt: list[bool] = field(default_factory=list)
    pts: list[float | None] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    fault: SourceError | None = None


def request_of(url: str, **options: Any) -> SourceRequest:
    """A request to the own reader, of little patience."""
    return SourceRequest(url, **{"reader": Reader.OWN, "timeout_s": 1.0, **options})


def read_all(url: str, most: int = 10_000, stop: threading.Event | None = None, **options: Any) -> Seen:
    """Open it and read up to `most` pictures. What fails in opening is raised, what fails later is kept."""
    seen = Seen()
    with open_source(request_of(url, **options), stop or threading.Event()) as source:
        seen.notes = source.notes
        try:
            for picture in source.pictures():
                seen.pictures.append(pixels(picture))
                seen.corrupt.append(picture.corrupt)
                seen.pts.append(picture.pts)
                if len(seen.pictures) >= most:
                    break
        except SourceError as fault:
            seen.fault = fault
    return seen


def fault_of(url: str, **options: Any) -> SourceError:
    """Why it cannot be opened, or be read to its end."""
    try:
        seen = read_all(url, **options)
    except SourceError as fault:
        return fault
    assert seen.fault is not None, "it goes on"
    return seen.fault


def pixels(picture: Picture) -> bytes:
    """A picture's planes, one after the other."""
    return b"".join(plane.tobytes() for plane in picture.planes)


def decoded(clip: Path) -> list[bytes]:
    """A clip's pictures as libav alone decodes them."""
    with av.open(str(clip)) as source:
        return [frame.to_ndarray().tobytes() for frame in source.decode(video=0)]
