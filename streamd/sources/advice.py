"""What to do about each way in which a network source fails, in words for people."""

from __future__ import annotations

from types import MappingProxyType

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown
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


def silence(request: SourceRequest, elapsed_s: float, doing: str = "reading") -> SourceError:
    """A network source gave nothing for `elapsed_s`."""
    advice = f"no data for {elapsed_s:.1f} s; check the camera and the network, or raise timeout_s"
    return SourceError(Reason.TIMEOUT, f"{shown(request.url)}: {doing} failed: {advice}")
