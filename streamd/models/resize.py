"""A decoded picture at another size, coloured and upright: what goes into a model's input.

The planes are scaled first and coloured when small, which costs a fraction of the usual way over a full-size
BGR picture (tests/support/letterbox_race.py measures it); tests/models/test_preprocess.py bounds the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from streamd.core.picture import Layout, Matrix, Picture, Pixels
from streamd.models.colour import TURNS, yuv_matrix
from streamd.models.contract import Array, Order

_COARSE_CHROMA = 512
"""Width of the scaled picture from which chroma may have half its size: below it, small models notice."""

_TWICE = np.uint16(0x0101)

_SWSCALE_MATRICES = {
    Matrix.BT601: Colorspace.ITU601,
    Matrix.BT709: Colorspace.ITU709,
    Matrix.BT2020: Colorspace.BT2020,
}


class Resizer:
    """Resizes and colours pictures. One per stream and thread: it reuses its scratch memory.

    What it returns is valid until it is called again, and not to be written.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._reformatter = VideoReformatter()
        # Scratch memory by purpose; it follows the source's size.
        self._scratch: dict[str, Pixels] = {}
        self._halved: _Halved | None = None

    def write_planes(self, picture: Picture, targets: Sequence[Pixels]) -> None:
        """As `planes`, into three arrays of one size: uint8 [height, width], pixels of a line side by side."""
        height, width = targets[0].shape
        if picture.layout is Layout.GRAY or picture.rotation or _may_halve_chroma(picture, (height, width)):
            for target, plane in zip(targets, self.planes(picture, height, width), strict=True):
                np.copyto(target, plane)
        else:
            _split(self._coloured(picture, (height, width)), targets)

    def planes(self, picture: Picture, height: int, width: int) -> list[Pixels]:
        """Three channels in the model's order, uint8 [height, width] each; of a grey picture one, thrice.

        height, width: of the upright result, in pixels, at least 1. Never blocks; releases the GIL.
        """
        stored = (width, height) if picture.rotation in (90, 270) else (height, width)
        if picture.layout is Layout.GRAY:
            grey = self._upright(_scale(picture.planes[0], self._memory("grey", stored)), picture, "grey_up")
            return [grey] * 3
        if _may_halve_chroma(picture, stored):
            green, blue, red = _views(self._halved_chroma(picture, stored, "gbrp"), stored)
            channels = [red, green, blue] if self._order is Order.RGB else [blue, green, red]
        else:
            channels = [self._memory(f"channel{index}", stored) for index in range(3)]
            _split(self._coloured(picture, stored), channels)
        return [
            self._upright(channel, picture, f"channel{index}_up") for index, channel in enumerate(channels)
        ]

    def interleaved(self, picture: Picture, height: int, width: int) -> Pixels:
        """The same as `planes` in one array: uint8 [height, width, 3]."""
        stored = (width, height) if picture.rotation in (90, 270) else (height, width)
        if picture.layout is Layout.GRAY:
            grey = _scale(picture.planes[0], self._memory("grey", stored))
            small = self._memory("coloured", (*stored, 3))
            cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR, dst=small)
        elif _may_halve_chroma(picture, stored):
            name = "rgb24" if self._order is Order.RGB else "bgr24"
            wide = _views(self._halved_chroma(picture, stored, name), (stored[0], 3 * stored[1]))[0]
            small = wide.reshape(*stored, 3)
        else:
            small = self._coloured(picture, stored)
        return self._upright(small, picture, "coloured_up")

    # -- colours ---------------------------------------------------------------------------------------

    def _halved_chroma(self, picture: Picture, size: tuple[int, int], name: str) -> av.VideoFrame:
        """Scaled as a 4:2:0 picture, then coloured by swscale: what a camera's picture mostly takes.

        The chroma is as coarse then as in the JPEG pictures that models are trained on. From 4:2:0 swscale
        has fast code for every matrix, into planes faster than anything else; from other layouts it has not.
        libav takes the result's memory anew each time (0.7 MB for 640 x 360).
        """
        if self._halved is None or self._halved.size != size:
            self._halved = _Halved(size)
        luma, blue, red = self._halved.planes
        _scale(picture.planes[0], luma)
        if picture.layout is Layout.NV12:
            cv2.split(_scale(picture.planes[1], self._memory("pair", (*blue.shape, 2))), [blue, red])
        else:
            _scale(picture.planes[1], blue)
            _scale(picture.planes[2], red)
        return self._reformatter.reformat(
            self._halved.frame,
            format=name,
            src_colorspace=_SWSCALE_MATRICES[picture.matrix],
            src_color_range=ColorRange.JPEG if picture.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )

    def _coloured(self, picture: Picture, size: tuple[int, int]) -> Pixels:
        """Every plane scaled to `size`, then the picture's own matrix: [height, width, 3].

        The full-size RGB picture that models are trained and compared with has its chroma repeated before it is
        scaled. That is followed where it costs little: interpolated chroma moves a small model's
        detections. Where luma shrinks to half or less it makes no difference that a model sees.
        """
        coloured = self._memory("coloured", (*size, 3))
        luma, *chroma = picture.planes
        if picture.layout is Layout.RGB:
            _scale(luma, coloured)
            if self._order is Order.BGR:
                cv2.cvtColor(coloured, cv2.COLOR_RGB2BGR, dst=coloured)
            return coloured
        on_pixels = _falls_on_pixels(luma, size)
        repeats = not (on_pixels or _shrinks_to_half(luma, size))
        planes = [luma if luma.shape == size else _scale(luma, self._memory("luma", size))]
        for index, plane in enumerate(chroma):
            scaled = self._memory(f"chroma{index}", (*size, *plane.shape[2:]))
            if repeats and plane.shape[:2] != luma.shape:
                full = self._memory(f"full{index}", (*luma.shape, *plane.shape[2:]))
                plane = _repeat(plane, full, cv2.INTER_NEAREST)
            if on_pixels and plane.shape != scaled.shape:
                plane = _repeat(plane, scaled, cv2.INTER_NEAREST_EXACT)
            elif plane.shape != scaled.shape:
                plane = _scale(plane, scaled)
            planes.append(plane)
        yuv = self._memory("yuv", coloured.shape)
        cv2.merge(planes, dst=yuv)
        cv2.transform(yuv, yuv_matrix(picture.matrix, picture.full_range, self._order), dst=coloured)
        return coloured

    # -- memory ----------------------------------------------------------------------------------------

    def _upright(self, small: Pixels, picture: Picture, purpose: str) -> Pixels:
        if not picture.rotation:
            return small
        height, width = small.shape[:2]
        size = (width, height) if picture.rotation in (90, 270) else (height, width)
        turned = self._memory(purpose, (*size, *small.shape[2:]))
        return into(turned, cv2.rotate(small, TURNS[picture.rotation], dst=turned))

    def _memory(self, purpose: str, shape: tuple[int, ...]) -> Pixels:
        memory = self._scratch.get(purpose)
        if memory is None or memory.shape != shape:
            memory = self._scratch[purpose] = np.empty(shape, np.uint8)
        return memory


class _Halved:
    """A 4:2:0 picture of `size` (height, width; both even) in libav's memory, and views to write its planes."""

    def __init__(self, size: tuple[int, int]) -> None:
        height, width = self.size = size
        self.frame = av.VideoFrame(width, height, "yuv420p")
        self.planes = [
            _view(plane, plane_size)
            for plane, plane_size in zip(
                self.frame.planes, [size, *[(height // 2, width // 2)] * 2], strict=True
            )
        ]


def _may_halve_chroma(picture: Picture, size: tuple[int, int]) -> bool:
    """Whether chroma of half the size is enough for a result of `size` (height, width), both even."""
    even = size[0] % 2 == 0 and size[1] % 2 == 0
    large = even and size[1] >= _COARSE_CHROMA
    return large and picture.layout is not Layout.RGB and _shrinks_to_half(picture.planes[0], size)


def _shrinks_to_half(luma: Pixels, size: tuple[int, int]) -> bool:
    return bool(2 * size[0] <= luma.shape[0] and 2 * size[1] <= luma.shape[1])


def _views(frame: av.VideoFrame, size: tuple[int, int]) -> list[Pixels]:
    return [_view(plane, size) for plane in frame.planes]


def _view(plane: VideoPlane, size: tuple[int, int]) -> Pixels:
    """A view of the first bytes of a plane's lines: uint8 [height, bytes]. It keeps the frame alive."""
    lines = np.frombuffer(cast(memoryview, plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: size[0], : size[1]]


def _split(coloured: Pixels, targets: Sequence[Pixels]) -> None:
    for target, channel in zip(targets, cv2.split(coloured, targets), strict=True):
        into(target, channel)


def _repeat(plane: Pixels, target: Pixels, how: int) -> Pixels:
    """`plane` at the size of `target`, written into it, no pixel interpolated; the target has no gaps."""
    height, width = plane.shape[:2]
    if target.shape == (2 * height, 2 * width):
        # Both bytes of a number twice as wide: what cv2.resize gives, at 640 x 360 in a ninth of the time.
        pairs = target.view(np.uint16).reshape(height, 2, width)
        pairs[...] = plane[:, np.newaxis]
        np.multiply(pairs, _TWICE, out=pairs)
        return target
    return _scale(plane, target, how)


def _scale(plane: Pixels, target: Pixels, how: int = cv2.INTER_LINEAR) -> Pixels:
    """`plane` at the size of `target`, written into it; half-pixel centres. Returns `target`."""
    (high, wide), (height, width) = plane.shape[:2], target.shape[:2]
    down, across = high // height, wide // width
    if _falls_on_pixels(plane, (height, width)):
        # At an odd whole factor every sample point falls on a pixel: 1080p to 640 is such a case. Equal to
        # cv2.resize, and three times as fast.
        np.copyto(target, plane[down // 2 :: down, across // 2 :: across])
        return target
    return into(target, cv2.resize(plane, (width, height), dst=target, interpolation=how))


def _falls_on_pixels(plane: Pixels, size: tuple[int, int]) -> bool:
    """Whether every sample point of a picture of `size` (height, width) is a pixel's centre: odd factors."""
    (high, wide), (height, width) = plane.shape[:2], size
    return high % height == 0 and wide % width == 0 and bool((high // height) % 2 and (wide // width) % 2)


def into(target: Array, result: object) -> Array:
    """Make sure that what an OpenCV call returned lies in `target`, which it was given as `dst`."""
    # OpenCV returns other memory when it does not like the target's; the target is what is read on.
    if result is not target:
        np.copyto(target, cast(Array, result))
    return target
