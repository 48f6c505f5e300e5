"""Whether a decoder really decodes here: a shipped clip whose pictures are known (tools/make_trial_clips.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from streamd.sources.libav.faults import plain
from streamd.sources.libav.hardware import NoHardwareError, accelerated

PICTURES = 5
_NEAR = 4.0
"""Of 255; the clips are compressed."""


class TrialError(Exception):
    """It does not decode, or not to what the clip holds; the message says why."""


def grey(number: int) -> int:
    """The luma of a whole picture of the clip."""
    return 40 + 35 * number


def try_decoder(clip: Path, gpu: int | None) -> str:
    """Decodes the clip, on this GPU or on the processor, and compares; the decoder's name. Raises TrialError."""
    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            context: VideoCodecContext = stream.codec_context
            if gpu is not None:
                context = accelerated(context, gpu)
            frames = [frame for packet in container.demux(stream) for frame in context.decode(packet)]
            # libav's own end of the stream is an empty packet, which demuxing gives as the last one.
            means = [_mean(frame, gpu) for frame in frames]
            name = context.codec.name
    except NoHardwareError as error:
        raise TrialError(str(error)) from error
    except av.error.FFmpegError as error:
        raise TrialError(plain(error)) from error
    except (AttributeError, IndexError) as error:
        raise TrialError("this FFmpeg was built without a decoder for it") from error
    if len(means) != PICTURES:
        raise TrialError(f"{len(means)} of {PICTURES} pictures came")
    worst = max(abs(mean - grey(number)) for number, mean in enumerate(means))
    if worst > _NEAR:
        raise TrialError(f"its pictures are wrong (by {worst:.0f} of 255)")
    return name


def _mean(frame: VideoFrame, gpu: int | None) -> float:
    """The mean luma. Raises TrialError for a picture that does not lie where it was to be decoded."""
    there = frame.format.name == "cuda"
    if there != (gpu is not None):
        raise TrialError(f"its pictures are {frame.format.name}: another decoder took over")
    if there:
        frame = frame.reformat(format="nv12")
    plane = frame.planes[0]
    buffer: Any = plane
    rows = np.frombuffer(buffer, np.uint8).reshape(plane.height, plane.line_size)
    return float(rows[:, : plane.width].mean())
