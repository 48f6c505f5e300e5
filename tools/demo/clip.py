"""Writes frames as an H.264 clip, reads them back, and writes the truth as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from tools.demo.scene import CLASSES, Truth


def write_clip(
    path: Path, frames: Iterable[NDArray[np.uint8]], size: tuple[int, int], fps: int, crf: int = 23
) -> None:
    """Encode BGR frames with libx264 in an MP4.

    One thread and fixed settings: equal input gives equal bytes.
    """
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        context: Any = stream.codec_context
        context.thread_count = 1
        # Said in the stream, since a reader that has to guess may take HD coefficients.
        context.colorspace = Colorspace.SMPTE170M
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.SMPTE170M
        context.color_trc = ColorTrc.SMPTE170M
        stream.options = {
            "preset": "slow", "profile": "high", "crf": str(crf),
            "g": str(2 * fps), "bf": "2", "threads": "1",
        }  # fmt: skip
        for index, picture in enumerate(frames):
            whole = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame = whole.reformat(
                format="yuv420p", dst_colorspace=Colorspace.SMPTE170M, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_clip(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Decode a clip to BGR frames."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def write_truth(
    path: Path, truths: Sequence[Sequence[Truth]], size: tuple[int, int], fps: int, seed: int
) -> None:
    """Write the truth of a clip; the format is given in tools/README.md."""
    frames = [
        [
            {
                "id": t.id,
                "class": CLASSES[t.label],
                "box": list(t.box),
                "visible": t.visible,
                "ignore": t.ignore,
            }
            for t in frame
        ]
        for frame in truths
    ]
    head = {"seed": seed, "width": size[0], "height": size[1], "fps": fps, "classes": list(CLASSES)}
    lines = ",\n".join(json.dumps(frame) for frame in frames)
    path.write_text(json.dumps(head)[:-1] + ',\n"frames": [\n' + lines + "\n]}\n")
