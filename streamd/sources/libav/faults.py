"""PyAV's errors become SourceError: from the error, the scheme, and the time it took."""

from __future__ import annotations

import errno
import socket
from urllib.parse import urlsplit

import av.error

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import scheme_of, shown
from streamd.sources.advice import ADVICE, UNREACHABLE, silence
from streamd.sources.source import SourceRequest

_KINDS: tuple[tuple[type[av.error.FFmpegError], Reason], ...] = (
    (av.error.HTTPUnauthorizedError, Reason.AUTH),
    (av.error.HTTPForbiddenError, Reason.AUTH),
    (av.error.HTTPNotFoundError, Reason.NOT_FOUND),
    (av.error.FileNotFoundError, Reason.NOT_FOUND),
    (av.error.PermissionError, Reason.NOT_FOUND),
    (av.error.ConnectionRefusedError, Reason.REFUSED),
    (av.error.ConnectionResetError, Reason.EOF),
    (av.error.ConnectionAbortedError, Reason.EOF),
    (av.error.BrokenPipeError, Reason.EOF),
    (av.error.EOFError, Reason.EOF),
    (av.error.TimeoutError, Reason.TIMEOUT),
    (av.error.ExitError, Reason.TIMEOUT),
    (av.error.DecoderNotFoundError, Reason.CODEC),
    (av.error.DemuxerNotFoundError, Reason.CODEC),
    (av.error.PatchWelcomeError, Reason.CODEC),
    (av.error.HTTPError, Reason.ERROR),
)


def connection_fault(
    error: av.error.FFmpegError, request: SourceRequest, elapsed_s: float, doing: str
) -> SourceError:
    """What went wrong with a network source while `doing` something ("opening", "reading")."""
    reason = network_reason(error, request, elapsed_s)
    if reason is Reason.TIMEOUT:
        return silence(request, elapsed_s, doing)
    if error.errno == errno.EPROTONOSUPPORT:
        advice = f"the server does not send over {request.transport}; set transport: auto"
    elif reason in ADVICE:
        advice = ADVICE[reason]
    else:
        advice = f"{plain(error)}; check that the address speaks {scheme_of(request.url)}"
    return SourceError(reason, f"{shown(request.url)}: {doing} failed: {advice}")


def network_reason(error: av.error.FFmpegError, request: SourceRequest, elapsed_s: float) -> Reason:
    """The reason behind an error of a network source that came after `elapsed_s` of silence."""
    for kind, reason in _KINDS:
        if isinstance(error, kind):
            return reason
    if error.errno in UNREACHABLE:
        return Reason.UNREACHABLE
    # A server that accepts and says nothing ends in "invalid data" once the time is over.
    if elapsed_s >= 0.9 * request.timeout_s:
        return Reason.TIMEOUT
    # What is left is mostly a bare I/O error: a name that does not resolve, or a failed handshake.
    if not isinstance(error, av.error.InvalidDataError) and not _resolves(request.url):
        return Reason.UNREACHABLE
    if scheme_of(request.url) in ("rtsps", "https"):
        return Reason.TLS
    return Reason.ERROR


def plain(error: av.error.FFmpegError) -> str:
    """libav's words for the error, without the file name that PyAV adds."""
    return (error.strerror or type(error).__name__).strip().lower()


def _resolves(url: str) -> bool:
    try:
        host = urlsplit(url).hostname
        if host:
            socket.getaddrinfo(host, None)
    except (OSError, UnicodeError, ValueError):
        return False
    return True
