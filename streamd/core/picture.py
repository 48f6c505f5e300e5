"""One decoded picture as the sources hand it on: views of its planes and all that is known about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]


class Layout(StrEnum):
    """How `Picture.planes` holds the pixels; all samples are 8 bit."""

    YUV = "yuv"
    """Three planes [H, W], [h, w], [h, w]; the chroma size says 4:2:0, 4:2:2 or 4:4:4."""
    NV12 = "nv12"
    """Two planes [H, W], [h, w, 2]: U and V interleaved."""
    GRAY = "gray"
    """One plane [H, W]."""
    RGB = "rgb"
    """One plane [H, W, 3], red first, full range."""


class Matrix(StrEnum):
    """The luma coefficients of a YUV picture; untagged pictures are BT.601, as swscale takes them."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020 = "bt2020"


@dataclass(frozen=True, slots=True)
class DevicePlanes:
    """The planes of an NV12 picture in a GPU's memory: addresses there, and the bytes from line to line.

    They may still be being written: whoever reads them waits for the device's default stream first.
    """

    device: int
    width: int
    height: int
    """Of the luma plane, in pixels."""
    luma: int
    luma_pitch: int
    chroma: int
    chroma_pitch: int
    download: Callable[[], tuple[Pixels, ...]]
    """A copy of both planes in host memory. Any thread may ask; blocks, and holds the GIL meanwhile."""
    refuse: Callable[[str], None]
    """Tell the decoder that its pictures cannot be used there, and why: it goes on, on the CPU, as soon as it can."""


@dataclass(slots=True)
class Picture:
    """A decoded picture. The planes are views of memory that `owner` keeps: valid while the picture lives.

    The planes are as stored; `rotation` says how far they have to be turned clockwise (0, 90, 180 or 270
    degrees) to be upright. `width` and `height` are those of the upright picture, in stored pixels.
    """

    planes: tuple[Pixels, ...]
    layout: Layout
    matrix: Matrix
    full_range: bool
    rotation: int
    width: int
    height: int
    sar: Fraction | None
    """Sample aspect ratio of the upright picture (width of a pixel over its height); None when square."""
    pts: float | None
    """Media time in seconds, as the container says; None if it does not."""
    received_ns: int
    """Monotonic time at which the reader had the picture's last packet."""
    received_us: int
    """The same moment as wall time, microseconds since 1970."""
    captured_us: int | None
    """The camera's own wall time (RTCP sender reports), microseconds since 1970; None when unknown."""
    keyframe: bool
    corrupt: bool
    """Damaged, or perhaps so: after a damaged picture none is to be trusted until decoding begins anew."""
    owner: object
    """What keeps the planes' memory alive."""
    device: DevicePlanes | None = None
    """Where the picture lies on a GPU; `planes` is empty then."""

    def on_host(self) -> Picture:
        """The same picture with its planes in host memory: itself, or a copy of one on a GPU."""
        if self.device is None:
            return self
        return replace(self, planes=self.device.download(), device=None)
