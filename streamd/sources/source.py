"""What is asked of a source, and what an opened one offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Literal, Protocol, Self

from streamd.core.picture import Picture
from streamd.sources.thinning import Thinning


class Kind(StrEnum):
    """What an address leads to; it decides which settings mean anything."""

    RTSP = "rtsp"
    HTTP = "http"
    DEVICE = "device"
    FILE = "file"
    TEST = "test"

    @property
    def live(self) -> bool | None:
        """Whether it runs at its own pace; None when only the opened container knows."""
        return {Kind.FILE: False, Kind.HTTP: None}.get(self, True)


class Transport(StrEnum):
    """How RTSP carries the media."""

    AUTO = "auto"
    """TCP first, UDP if the server refuses TCP."""
    TCP = "tcp"
    UDP = "udp"


class Reader(StrEnum):
    """Who speaks RTSP."""

    AUTO = "auto"
    OWN = "own"
    LIBAV = "libav"


class Hardware(StrEnum):
    """What decodes."""

    AUTO = "auto"
    CUDA = "cuda"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Tls:
    """How the other side of rtsps: and https: is checked. `ca`: a PEM file; None: the system's."""

    verify: bool = True
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """One source as it is to be opened.

    url: an address of a scheme in the table of `streamd.sources`, or a path.
    video: "best", or N for the N-th video stream, counted from 0; cover art does not count.
    start_s: leave out what lies before this media time, in seconds (files only).
    threads: of the decoder; more than one adds delay, so live sources always use one.
    gpu: the number of the GPU on which the pictures are wanted; None: on none, so that none decodes them.
    every: leave nothing out when the pictures are not taken in time: the reader waits, and with it the camera, which
        may not like it. Else a live source leaves out what is old before it is decoded.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    transport: Transport = Transport.AUTO
    reader: Reader = Reader.AUTO
    timeout_s: float = 5.0
    tls: Tls = Tls()
    video: Literal["best"] | int = "best"
    hardware: Hardware = Hardware.AUTO
    start_s: float | None = None
    threads: int = 1
    gpu: int | None = None
    every: bool = False


class Closing:
    """What is closed at the end of a `with`. A mixin: who inherits it has the `close`."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Source(Protocol):
    """An opened source. Opened, read and closed in one thread; closing it under its reader may crash.

    live: what is not read now is lost, and an end is a failure (RTSP, V4L2, HTTP without a declared length).
    clock: what `Picture.pts` follows: the arrival of a live stream, or a file.
    width, height: of the upright picture, in stored pixels, at the time of opening.
    rate: average frames per second as announced: a hint, never to be relied on.
    duration_s, frames: declared length and about how many pictures that makes; None when not declared.
    notes: what was done otherwise than asked, one line each; more may come while pictures are read.
    skipped: pictures left out before the first because of `SourceRequest.start_s`; so the first picture that
        `pictures()` yields has this index in the file.
    damaged: packets that could not be read or decoded so far.
    lost_packets: packets that the network lost; 0 where the reader cannot know (libav's RTSP reader cannot).
    undecoded: encoded pictures that came and were never decoded, by reason: "behind" (the machine is too slow),
        "damaged" (parts were lost), "no_keyframe" (before the first one) and "rate_limit" (see `thinning`). Both may
        be read by any thread.
    thinning: what a live source leaves out when fewer pictures are wanted than come.
    """

    @property
    def live(self) -> bool: ...
    @property
    def clock(self) -> Literal["arrival", "file"]: ...
    @property
    def codec(self) -> str: ...
    @property
    def profile(self) -> str | None: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def frames(self) -> int | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def skipped(self) -> int: ...
    @property
    def damaged(self) -> int: ...
    @property
    def lost_packets(self) -> int: ...
    @property
    def undecoded(self) -> Mapping[str, int]: ...
    @property
    def thinning(self) -> Thinning: ...

    def pictures(self) -> Iterator[Picture]:
        """Every decodable picture, in the decoder's order, once; to be called once.

        Blocks while reading, at most the request's `timeout_s`, and looks at the stop flag between packets:
        when that is set, it just ends. Raises SourceError when a live source ends or fails, and, after the
        last picture, when a file proves to be incomplete.
        """
        ...

    def close(self) -> None:
        """Let go of the connection or file. Safe to call twice."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
