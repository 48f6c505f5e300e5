"""Which of a container's streams is read."""

from __future__ import annotations

from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown
from streamd.sources.source import SourceRequest


def pick(container: InputContainer, request: SourceRequest) -> VideoStream:
    """The asked video stream; "best" is libav's choice (av_find_best_stream: largest, most frames probed).

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
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(Reason.CODEC, f"{name}: there is no video in it, only {kinds}")
    if request.video == "best":
        best = container.streams.best("video")
        chosen = best if isinstance(best, VideoStream) and best in videos else videos[0]
    elif 0 <= request.video < len(videos):
        chosen = videos[request.video]
    else:
        raise SourceError(
            Reason.NOT_FOUND,
            f"{name}: no video stream {request.video}; there are {len(videos)}, counted from 0",
        )
    if chosen.codec_context is None:
        raise SourceError(Reason.CODEC, f"{name}: there is no decoder for its video; convert it to H.264")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen
