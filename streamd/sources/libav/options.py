"""The options each kind of source is opened with, as libav spells them. Times are in microseconds there."""

from __future__ import annotations

import os
import ssl

from streamd.sources.address import scheme_of
from streamd.sources.source import SourceRequest, Transport

_TRANSPORTS = {
    Transport.AUTO: {"rtsp_flags": "prefer_tcp"},
    Transport.TCP: {"rtsp_transport": "tcp"},
    Transport.UDP: {"rtsp_transport": "udp"},
}


def rtsp_options(request: SourceRequest) -> dict[str, str]:
    """For RTSP: no probing, no audio, time-outs kept in C.

    The description (SDP) says what the stream is; probing for it would hold the first picture back for about
    a second. `nobuffer` is left out on purpose: it throws the first keyframe away.
    """
    return {
        **_TRANSPORTS[request.transport],
        "timeout": _microseconds(request.timeout_s),
        "probesize": "32",
        "analyzeduration": "0",
        "allowed_media_types": "video",
        **_tls_options(request),
    }


def patient(options: dict[str, str]) -> dict[str, str]:
    """The same options, but with libav's own probing: for servers whose description is not enough."""
    return {key: value for key, value in options.items() if key not in ("probesize", "analyzeduration")}


def http_options(request: SourceRequest) -> dict[str, str]:
    """For HTTP(S): time-outs of connect and read; reconnecting is not libav's."""
    return {"rw_timeout": _microseconds(request.timeout_s), **_tls_options(request)}


def file_options() -> dict[str, str]:
    """For files: nothing in a file may open the network, and a % in a name is no pattern."""
    return {"protocol_whitelist": "file,crypto,data", "pattern_type": "none"}


def _tls_options(request: SourceRequest) -> dict[str, str]:
    if scheme_of(request.url) not in ("rtsps", "https"):
        return {}
    if not request.tls.verify:
        return {"tls_verify": "0"}
    authorities = request.tls.ca or _system_authorities()
    return {"tls_verify": "1", **({"ca_file": authorities} if authorities else {})}


def _system_authorities() -> str | None:
    # The libav of PyAV's wheels looks for authorities where it was built, not where this system keeps them.
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if path and os.path.exists(path):
            return path
    return None


def _microseconds(seconds: float) -> str:
    return str(round(seconds * 1e6))
