"""A decoded frame becomes a picture of plane views, without a copy where the format allows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from streamd.core.picture import DevicePlanes, Layout, Matrix, Picture, Pixels

# The values of FFmpeg's AVColorSpace; 4, 5 and 6 are BT.601's coefficients under other names, 7 is within
# a fraction of a percent of BT.709, 10 is BT.2020 with another transfer order, which nobody sends.
_MATRICES = {1: Matrix.BT709, 7: Matrix.BT709, 9: Matrix.BT2020, 10: Matrix.BT2020}
_BYTE = np.dtype(np.uint8)
_SCALABLE = {0, 1, 2, 4, 5, 6, 7, 9}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG

# Format to its layout and the channels of each plane. Plain text as keys: an Enum is hashed in Python.
_DIRECT = {
    **{
        f"yuv{j}{name}p": (Layout.YUV, (1, 1, 1))
        for j in ("", "j")
        for name in (410, 411, 420, 422, 440, 444)
    },
    "nv12": (Layout.NV12, (1, 2)),
    "gray": (Layout.GRAY, (1,)),
    "rgb24": (Layout.RGB, (3,)),
}
_SUBSAMPLED = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 1): "yuv444p", (1, 2): "yuv440p", (4, 1): "yuv411p"}


class Arrival(NamedTuple):
    """When a packet came: monotonic ns, and microseconds since 1970."""

    ns: int
    us: int

    @classmethod
    def now(cls) -> Arrival:
        """This moment."""
        return cls(time.monotonic_ns(), time.time_ns() // 1000)


class PlaneViews:
    """Makes plane views of one source's frames. Not thread-safe; holds one converter for odd formats."""

    def __init__(self, refuse: Callable[[str], None] = lambda why: None) -> None:
        """refuse: what pictures on a GPU are given as `DevicePlanes.refuse`."""
        # One per source: a converter made per frame keeps megabytes alive.
        self._converter: VideoReformatter | None = None
        self._refuse = refuse

    def on_device(self, frame: VideoFrame, gpu: int) -> DevicePlanes:
        """The planes of an NV12 frame in a GPU's memory, where they stay."""
        luma, chroma = frame.planes
        return DevicePlanes(
            device=gpu,
            width=frame.width,
            height=frame.height,
            luma=luma.buffer_ptr,
            luma_pitch=luma.line_size,
            chroma=chroma.buffer_ptr,
            chroma_pitch=chroma.line_size,
            download=partial(_downloaded, frame),
            refuse=self._refuse,
        )

    def of(self, frame: VideoFrame) -> tuple[tuple[Pixels, ...], Layout, Matrix, bool, VideoFrame]:
        """Planes (uint8, read-only), their layout, the matrix, whether the range is full, and the owner.

        10-bit, packed, alpha and palette formats are converted to the nearest 8-bit layout first. Raises
        FFmpegError when swscale does not know the format.
        """
        name = frame.format.name
        matrix, full_range = _colours(frame)
        if name not in _DIRECT:
            name = _nearest(frame.format)
            frame = self._convert(frame, name)
            full_range = full_range or name in ("gray", "rgb24")
        layout, depth = _DIRECT[name]
        planes = [_view(plane, channels) for plane, channels in zip(frame.planes, depth, strict=False)]
        return tuple(planes), layout, matrix, full_range, frame

    def _convert(self, frame: VideoFrame, target: str) -> VideoFrame:
        if self._converter is None:
            self._converter = VideoReformatter()
        if frame.colorspace not in _SCALABLE:
            frame.colorspace = 2  # unspecified: swscale refuses what it has no coefficients for
        return self._converter.reformat(frame, format=target, threads=1)


def picture_of(
    views: PlaneViews,
    frame: VideoFrame,
    pts: float | None,
    sar: Fraction | None,
    arrival: Arrival,
    *,
    captured_us: int | None = None,
    corrupt: bool,
    gpu: int | None = None,
) -> Picture:
    """The frame with all that is known of it. sar: of the stored picture. gpu: where it lies if it is not here.

    Raises as `PlaneViews.of` does.
    """
    planes: tuple[Pixels, ...] = ()
    if gpu is not None and frame.format.name == "cuda":
        layout, (matrix, full_range), owner = Layout.NV12, _colours(frame), frame
        device = views.on_device(frame, gpu)
    else:
        planes, layout, matrix, full_range, owner = views.of(frame)
        device = None
    # libav's angle counts counter-clockwise.
    rotation = round(-frame.rotation / 90) * 90 % 360
    lying = rotation in (90, 270)
    if sar is not None and (sar <= 0 or sar == 1):
        sar = None
    return Picture(
        planes=planes,
        layout=layout,
        matrix=matrix,
        full_range=full_range,
        rotation=rotation,
        width=frame.height if lying else frame.width,
        height=frame.width if lying else frame.height,
        sar=1 / sar if sar and lying else sar,
        pts=pts,
        received_ns=arrival.ns,
        received_us=arrival.us,
        captured_us=captured_us,
        keyframe=bool(frame.key_frame),
        corrupt=corrupt,
        owner=owner,
        device=device,
    )


def _colours(frame: VideoFrame) -> tuple[Matrix, bool]:
    """The matrix, and whether the range is full. Before converting: that drops the name that may tell."""
    name = frame.format.name
    full_range = frame.color_range == _FULL_RANGE or name.startswith(("yuvj", "gray", "rgb"))
    return _MATRICES.get(frame.colorspace, Matrix.BT601), full_range


def _downloaded(frame: VideoFrame) -> tuple[Pixels, ...]:
    """The planes of an NV12 frame on a GPU, copied here."""
    here = frame.reformat(format="nv12")
    return tuple(_view(plane, channels) for plane, channels in zip(here.planes, (1, 2), strict=True))


def _nearest(form: VideoFormat) -> str:
    if form.is_rgb or form.has_palette or form.name.startswith(("xyz", "bayer")):
        return "rgb24"
    colours = sum(not component.is_alpha for component in form.components)
    if form.is_bit_stream or colours < 3:
        return "gray"
    across, down = -(-8 // form.chroma_width(8)), -(-8 // form.chroma_height(8))
    return _SUBSAMPLED.get((across, down), "yuv444p")


def _view(plane: VideoPlane, channels: int) -> Pixels:
    line, height, width = plane.line_size, plane.height, plane.width
    shape: tuple[int, ...] = (height, width) if channels == 1 else (height, width, channels)
    inner = (1,) if channels == 1 else (channels, 1)
    # libav stores some pictures bottom-up: the buffer then starts at the last line.
    start = 0 if line >= 0 else -line * (height - 1)
    buffer: Any = plane
    view: Pixels = np.ndarray(shape, _BYTE, buffer, start, (line, *inner))
    if line < 0:
        view = np.ascontiguousarray(view)
    # The decoder still predicts from this memory.
    view.setflags(write=False)
    return view
