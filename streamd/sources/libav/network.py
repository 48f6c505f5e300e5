"""RTSP(S) and HTTP(S) sources, one attempt each."""

from __future__ import annotations

import re
import threading
import time

import av
import av.error
from av.container import InputContainer

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown, with_credentials
from streamd.sources.advice import set_aside
from streamd.sources.libav.faults import connection_fault
from streamd.sources.libav.options import http_options, patient, rtsp_options
from streamd.sources.libav.reading import LibavSource
from streamd.sources.libav.streams import pick
from streamd.sources.source import SourceRequest

_RTSP_CREDENTIALS = 127
"""Bytes that libav's RTSP reader takes for "user:password"; what is longer it cuts, and then is refused."""


def open_rtsp(request: SourceRequest, stop: threading.Event) -> LibavSource:
    """Open an RTSP stream: always live. Blocks at most the request's time-out per answer of the server.

    libav's reader hands a picture over when the next one begins: one frame late. A lost packet leaves wrong
    pictures that nothing marks. Raises SourceError: auth, not_found, refused, unreachable, tls, timeout,
    codec, error.
    """
    # Not urlsplit: it takes the brackets in a password for those of an IPv6 host, and raises.
    joined = with_credentials(request.url, request.username, request.password).partition("://")[2]
    credentials = re.split("[/?#]", joined, maxsplit=1)[0].rpartition("@")[0]
    if len(credentials.encode()) > _RTSP_CREDENTIALS:
        raise SourceError(
            Reason.AUTH,
            f"{shown(request.url)}: user and password together are longer than {_RTSP_CREDENTIALS} bytes;"
            " libav's RTSP reader takes no more",
        )
    options = rtsp_options(request)
    container = _connect(request, options, scheme="rtsp")
    # Without a codec context a stream has no width to ask for, and none that could be found.
    if not any(stream.codec_context is None or stream.width for stream in container.streams.video):
        # A description without parameter sets lacks the picture's size: let libav look at the data.
        container.close()
        container = _connect(request, patient(options), scheme="rtsp")
    return _finish(container, request, stop, live=True)


def open_http(request: SourceRequest, stop: threading.Event) -> LibavSource:
    """Open a stream or file over HTTP(S): live unless its container declares a duration.

    Blocks at most the request's time-out per read. Raises SourceError as `open_rtsp` does.
    """
    container = _connect(request, http_options(request), scheme=None)
    return _finish(container, request, stop, live=container.duration is None)


def _connect(request: SourceRequest, options: dict[str, str], scheme: str | None) -> InputContainer:
    address = with_credentials(request.url, request.username, request.password)
    started = time.monotonic()
    try:
        # PyAV's own time-out takes the GIL at every wake-up of libav's socket loop: for the opening only.
        # While reading, libav's option of the same name watches.
        return av.open(
            address,
            format=scheme,
            options=options,
            timeout=(2 * request.timeout_s, None),
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        # Without `from`: the chained error's text holds the address with the password.
        fault = connection_fault(error, request, time.monotonic() - started, "opening")
    raise fault


def _finish(
    container: InputContainer, request: SourceRequest, stop: threading.Event, live: bool
) -> LibavSource:
    try:
        source = LibavSource(container, pick(container, request), request, live=live, stop=stop)
    except BaseException:
        container.close()
        raise
    for line in set_aside(request, live=live):
        source.note(line)
    if not live or not source.width:
        try:
            source.look_ahead()
        except BaseException:
            source.close()
            raise
    return source
