"""What to do about each way in which a network source fails, in words for people."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from types import MappingProxyType

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import scheme_of, shown
from streamd.sources.source import SourceRequest

ADVICE = MappingProxyType(
    {
        Reason.AUTH: "the user or password was refused; check username and password",
        Reason.NOT_FOUND: "the server is there but has no such stream; check the path of the address",
        Reason.REFUSED: "nobody listens there; check host and port, and that the camera's service is on",
        Reason.UNREACHABLE: "no way to this host; check its name, the network and the camera's power",
        Reason.TLS: "no encrypted connection; check the certificate, or set tls: {ca: ...} or {verify: false}",
        Reason.EOF: "the other side ended the stream",
        Reason.CODEC: "there is no decoder for this stream; set the camera to H.264 or H.265",
    }
)
"""By reason; what is not in it needs words of its own."""


UNREACHABLE = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)
"""The numbers of errors that mean: no way to this host."""


def silence(request: SourceRequest, elapsed_s: float, doing: str = "reading") -> SourceError:
    """A network source gave nothing for `elapsed_s`."""
    advice = f"no data for {elapsed_s:.1f} s; check the camera and the network, or raise timeout_s"
    return SourceError(Reason.TIMEOUT, f"{shown(request.url)}: {doing} failed: {advice}")


def no_video(request: SourceRequest, kinds: Iterable[str]) -> SourceError:
    """There are only streams of these kinds."""
    there = ", ".join(sorted(set(kinds))) or "nothing"
    return SourceError(Reason.CODEC, f"{shown(request.url)}: there is no video in it, only {there}")


def no_such_video(request: SourceRequest, count: int) -> SourceError:
    """The asked number is beyond the video streams that are there."""
    return SourceError(
        Reason.NOT_FOUND,
        f"{shown(request.url)}: no video stream {request.video}; there are {count}, counted from 0",
    )


def set_aside(request: SourceRequest, *, live: bool) -> list[str]:
    """What was asked and is done otherwise, one line each."""
    lines = []
    if live and request.start_s is not None:
        lines.append(f"{scheme_of(request.url)}: a live source has no start to skip; start_s is left aside")
    return lines
