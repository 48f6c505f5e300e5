"""Video devices (V4L2). Unproven: written and its refusals tested without a device at hand."""

from __future__ import annotations

import os
import stat
import threading

import av
import av.error
import av.format

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import path_of
from streamd.sources.libav.faults import plain
from streamd.sources.libav.reading import LibavSource
from streamd.sources.libav.streams import pick
from streamd.sources.source import SourceRequest

_FORMAT = "video4linux2,v4l2"


def open_v4l2(request: SourceRequest, stop: threading.Event) -> LibavSource:
    """Open a video device, at the size and format its driver is set to; always live.

    libav has no time-out for devices: a read blocks until the next picture. Raises SourceError.
    """
    path = path_of(request.url)
    if _FORMAT not in av.format.formats_available:
        raise SourceError(Reason.CODEC, f"{path}: this PyAV has no V4L2; install one built with libavdevice")
    try:
        if not stat.S_ISCHR(os.stat(path).st_mode):
            raise SourceError(Reason.NOT_FOUND, f"{path}: this is not a video device")
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        raise SourceError(
            Reason.NOT_FOUND, f"{path}: no such video device ({why}); see `ls /dev/video*`"
        ) from error
    try:
        container = av.open(path, format="v4l2", timeout=(request.timeout_s, None))
    except av.error.FFmpegError as error:
        denied = isinstance(error, av.error.PermissionError)
        advice = (
            "add the service's user to the group `video`" if denied else "see whether something else uses it"
        )
        raise SourceError(Reason.ERROR, f"{path}: cannot be opened: {plain(error)}; {advice}") from error
    try:
        return LibavSource(container, pick(container, request), request, live=True, stop=stop)
    except BaseException:
        container.close()
        raise
