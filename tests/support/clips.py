"""Clips made on the spot, each picture carrying its own number.

The number is drawn as two rows of 16 cells over the whole picture's width. The upper half of the picture is
the number in binary, most significant bit left: white (luma 235) is 1, black (16) is 0. The lower half is its
complement, with the lowest eighth of the picture left to a coloured, moving ramp. So cell `i` covers x from
i/16 to (i+1)/16 of the width and y from 0 to 7/16 (number) and 7/16 to 14/16 (complement) of the height;
sample its middle. A reader needs no more than 32 points, at y = 7/32 and 21/32 of the height and
x = (i + 0.5)/16 of the width, and survives compression, scaling and letterboxing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CELLS = 16


@dataclass(frozen=True)
class Clip:
    """What a clip is like. `times`: seconds per picture, for a variable rate; else `rate` counts.

    sound: seconds of a tone beside the pictures. second_video: a smaller second video stream, whose numbers
    start at 1000. start_s: time of the first picture. matrix: "bt709", "bt601", "bt2020" or None (untagged).
    """

    codec: str = "libx264"
    width: int = 320
    height: int = 240
    frames: int = 30
    rate: int = 25
    pix_fmt: str = "yuv420p"
    matrix: str | None = None
    full_range: bool = False
    interlaced: bool = False
    sar: Fraction | None = None
    gop: int = 12
    b_frames: int = 0
    start_s: float = 0.0
    times: Sequence[float] | None = None
    sound_s: float = 0.0
    second_video: bool = False
    first: int = 0
    container: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


_MATRIX = {"bt709": 1, "bt601": 6, "bt2020": 9}
_TIME_BASE = Fraction(1, 90_000)


def make(path: Path, clip: Clip | None = None) -> Path:
    """Write the clip; the container follows from the suffix. Returns the path."""
    clip = clip or Clip()
    with av.open(str(path), "w", container_options=clip.container) as out:
        videos = [_add_video(out, clip, clip.width, clip.height)]
        if clip.second_video:
            videos.append(_add_video(out, clip, clip.width // 2, clip.height // 2))
        sound = out.add_stream("aac", rate=16_000) if clip.sound_s else None
        for index in range(clip.frames):
            for number, stream in enumerate(videos):
                frame = picture(clip, clip.first + index + 1000 * number, stream.width, stream.height)
                seconds = clip.times[index] if clip.times is not None else index / clip.rate
                frame.pts = round((clip.start_s + seconds) / _TIME_BASE)
                frame.time_base = _TIME_BASE
                out.mux(stream.encode(frame))
        for stream in videos:
            out.mux(stream.encode())
        if sound is not None:
            for frame in _tone(clip.sound_s):
                out.mux(sound.encode(frame))
            out.mux(sound.encode())
    return path


def drawn(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """The picture of a number: uint8 [H, W, 3], RGB."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    bits = np.array([(number >> (CELLS - 1 - cell)) & 1 for cell in range(CELLS)], bool)
    lit = np.broadcast_to(bits[columns * CELLS // width], (height, width))
    lit = np.where(rows * 16 < height * 7, lit, ~lit)
    rgb = np.repeat(np.where(lit, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    ramp = (columns * 255 // max(width - 1, 1) + 5 * number) % 256
    below = np.broadcast_to(rows * 16 >= height * 14, (height, width))
    colours = np.stack(np.broadcast_arrays(ramp, 255 - ramp, (ramp // 2 + 64) + 0 * rows), axis=-1)
    rgb[below] = np.broadcast_to(colours, (height, width, 3))[below].astype(np.uint8)
    return rgb


def picture(clip: Clip, number: int, width: int, height: int) -> av.VideoFrame:
    """The picture of a number as a frame in the clip's pixel format, tagged with its colours."""
    rgb = av.VideoFrame.from_ndarray(drawn(number, width, height), format="rgb24")
    colours = _MATRIX[clip.matrix or "bt601"] if clip.matrix != "bt601" else 5
    frame = rgb.reformat(
        format=clip.pix_fmt,
        dst_colorspace=colours if clip.matrix else 5,
        dst_color_range=2 if clip.full_range else 1,
        threads=1,
    )
    frame.colorspace = _MATRIX[clip.matrix] if clip.matrix else 2
    frame.color_range = 2 if clip.full_range else (1 if clip.matrix else 0)
    return frame


def number_in(grey: NDArray[np.generic]) -> int | None:
    """The number drawn into a picture; None when number and complement disagree.

    grey: [H, W], any scale: one channel or the luma plane of the upright picture without letterbox.
    """
    height, width = grey.shape
    x = ((np.arange(CELLS) + 0.5) * width / CELLS).astype(int)
    upper = grey[height * 7 // 32, x].astype(float)
    lower = grey[height * 21 // 32, x].astype(float)
    middle = (max(upper.max(), lower.max()) + min(upper.min(), lower.min())) / 2
    bits = upper > middle
    if np.any(bits == (lower > middle)):
        return None
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _add_video(out: av.container.OutputContainer, clip: Clip, width: int, height: int) -> av.VideoStream:
    stream = out.add_stream(clip.codec, rate=clip.rate)
    stream.width, stream.height, stream.pix_fmt = width, height, clip.pix_fmt
    stream.time_base = _TIME_BASE
    context = stream.codec_context
    if clip.codec not in ("mjpeg", "ffv1", "rawvideo", "png"):
        context.gop_size = clip.gop
        context.max_b_frames = clip.b_frames
    if clip.sar is not None:
        stream.sample_aspect_ratio = clip.sar
    if clip.matrix:
        context.colorspace = _MATRIX[clip.matrix]
    if clip.full_range:
        context.color_range = 2
    options = dict(clip.options)
    if clip.codec == "libx264":
        options = {"preset": "ultrafast", "threads": "1", "bf": str(clip.b_frames), **options}
        if clip.interlaced:
            options["x264-params"] = "interlaced=1"
    elif clip.codec == "libx265":
        options = {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:pools=none:bframes={clip.b_frames}",
        } | options
    stream.options = options
    return stream


def _tone(seconds: float) -> Iterator[av.AudioFrame]:
    for start in range(0, int(seconds * 16_000), 1024):
        wave = np.sin(np.arange(start, start + 1024) / 10)[None].astype(np.float32) * 0.1
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        yield frame
