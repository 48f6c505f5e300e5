"""Which of a container's streams is read, and how long it says it is."""

from __future__ import annotations

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown
from streamd.sources.advice import no_such_video, no_video
from streamd.sources.libav.ending import declares_length
from streamd.sources.source import SourceRequest


def pick(container: InputContainer, request: SourceRequest) -> VideoStream:
    """The asked video stream; "best" is the largest picture that can be decoded, the first of equals.

    Cover art is no video. All other streams are discarded while demuxing. Raises SourceError when there is no
    such stream or no decoder for it.
    """
    name = shown(request.url)
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]
    if not videos:
        raise no_video(request, (stream.type for stream in container.streams))
    if request.video == "best":
        # Not av_find_best_stream: without bit rates, as in Matroska, it takes the first, however small.
        chosen = max(videos, key=_pixels)
    elif 0 <= request.video < len(videos):
        chosen = videos[request.video]
    else:
        raise no_such_video(request, len(videos))
    if chosen.codec_context is None:
        raise SourceError(Reason.CODEC, f"{name}: there is no decoder for its video; convert it to H.264")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen


def _pixels(stream: VideoStream) -> int:
    return stream.width * stream.height if stream.codec_context is not None else -1


def duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """The stream's length in seconds, declared or estimated by libav; None when it is not known."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def declared_s(container: InputContainer, stream: VideoStream) -> float | None:
    """The video stream's own length as the container states it; None when it does not."""
    if not declares_length(container.format.name):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tagged = _clock_s(stream.metadata.get("DURATION", ""))
    if tagged is not None:
        return tagged
    # The container's length is that of its longest stream: with sound, that need not be the video.
    if len(container.streams) > 1 or container.duration is None:
        return None
    return container.duration / av.time_base


def _clock_s(text: str) -> float | None:
    """Seconds of "hh:mm:ss.fff", as Matroska tags write a length."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
