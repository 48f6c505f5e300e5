"""The letterbox: a picture of any size and format is written straight into a model's input.

The planes are scaled first and coloured when small: for 1080p to 640 that costs a fraction of the usual way
over a full-size BGR picture (tests/support/letterbox_race.py measures it), at a mean error of about 0.7/255.
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import cv2
import numpy as np

from streamd.core.picture import Layout, Picture, Pixels
from streamd.models.colour import TURNS, colour_i420, opencv_knows, yuv_matrix
from streamd.models.contract import Array, Fit, Floats, InputContract, InputShape, Order, Placement

_COARSE_CHROMA = 512
"""Width of the scaled picture from which chroma may have half its size: below it, small models notice."""


class Letterbox:
    """Writes pictures into inputs of one model. One per stream and thread: it reuses its scratch memory."""

    def __init__(self, contract: InputContract, shape: InputShape) -> None:
        self._contract = contract
        self._shape = shape
        scale, mean, std = contract.scale, np.array(contract.mean), np.array(contract.std)
        self._gain: Floats = (scale / std).astype(np.float32)
        self._shift: Floats = (-mean / std).astype(np.float32)
        self._identity = bool(np.all(self._gain == 1) and np.all(self._shift == 0))
        self._tables = _tables(contract, shape.dtype)
        # What was placed last, and scratch memory by purpose: both follow the source's size.
        self._placed: tuple[tuple[int, int, Fraction | None], Placement] | None = None
        self._scratch: dict[str, Pixels] = {}

    def place(self, width: int, height: int, sar: Fraction | None) -> Placement:
        """Where an upright picture of this size in stored pixels will lie. Never blocks.

        The rounding follows who trained the models: YOLOX cuts the size, Ultralytics rounds size and margins.
        The scales are those of the rounded size, so boxes map back without a bias.
        """
        if self._placed is None or self._placed[0] != (width, height, sar):
            self._placed = ((width, height, sar), _place(self._contract.fit, self._shape, width, height, sar))
        return self._placed[1]

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement:
        """Write the letterboxed, coloured, normalised picture into `pixels`; returns where it lies.

        pixels: [3, H, W] or [H, W, 3] of the input's dtype (`InputShape.picture`), written in place.
        previous: the placement that this memory holds, so that its border is not filled again; None: fill.
        Allocates nothing once warm for 8-bit YUV pictures of one size.
        """
        placement = self.place(picture.width, picture.height, picture.sar)
        if placement != previous:
            self._fill(pixels)
        small = self._small(picture, placement)
        if picture.rotation:
            turned = self._memory("turned", (placement.height, placement.width, *small.shape[2:]))
            small = _into(turned, cv2.rotate(small, TURNS[picture.rotation], dst=turned))
        left, top = int(placement.offset_x), int(placement.offset_y)
        rows, columns = slice(top, top + placement.height), slice(left, left + placement.width)
        if self._shape.channels_first:
            self._write_planes(small, [pixels[channel, rows, columns] for channel in range(3)])
        else:
            self._write_interleaved(small, pixels[rows, columns])
        return placement

    # -- pixels ----------------------------------------------------------------------------------------

    def _fill(self, pixels: Array) -> None:
        for channel, table in enumerate(self._tables):
            (pixels[channel] if self._shape.channels_first else pixels[..., channel])[...] = table[
                self._contract.fill
            ]

    def _small(self, picture: Picture, placement: Placement) -> Pixels:
        """The picture at its size in the input, not turned yet: coloured [h, w, 3], or grey [h, w]."""
        width, height = placement.width, placement.height
        if picture.rotation in (90, 270):
            width, height = height, width
        if picture.layout is Layout.GRAY:
            return _scale(picture.planes[0], self._memory("grey", (height, width)))
        coloured = self._memory("coloured", (height, width, 3))
        if picture.layout is Layout.RGB:
            _scale(picture.planes[0], coloured)
            if self._contract.order is Order.BGR:
                cv2.cvtColor(coloured, cv2.COLOR_RGB2BGR, dst=coloured)
            return coloured
        high, wide = picture.planes[0].shape[:2]
        halves = 2 * height <= high and 2 * width <= wide
        even = height % 2 == 0 and width % 2 == 0
        if halves and even and width >= _COARSE_CHROMA and opencv_knows(picture):
            self._colour_halved(picture, coloured)
        else:
            self._colour_exactly(picture, coloured, halves=halves)
        return coloured

    def _colour_halved(self, picture: Picture, coloured: Pixels) -> None:
        """Scaled as a 4:2:0 picture, then coloured: what a camera's picture mostly takes, and the cheapest.

        The chroma is as coarse then as in the JPEG pictures that models are trained on.
        """
        height, width = coloured.shape[:2]
        i420 = self._memory("i420", (height * 3 // 2, width))
        chroma = i420[height:].reshape(2, height // 2, width // 2)
        _scale(picture.planes[0], i420[:height])
        if picture.layout is Layout.NV12:
            cv2.split(_scale(picture.planes[1], self._memory("pair", (*chroma.shape[1:], 2))), list(chroma))
        else:
            _scale(picture.planes[1], chroma[0])
            _scale(picture.planes[2], chroma[1])
        colour_i420(i420, self._contract.order, coloured)

    def _colour_exactly(self, picture: Picture, coloured: Pixels, *, halves: bool) -> None:
        """Every plane scaled to the size of `coloured`, then the picture's own matrix.

        The full-size RGB picture that models are trained and compared with has its chroma repeated before it is
        scaled. That is followed where it costs little: interpolated chroma moves a small model's
        detections. Where luma shrinks to half or less it makes no difference that a model sees.
        """
        size = coloured.shape[:2]
        luma, *chroma = picture.planes
        planes = [_scale(luma, self._memory("luma", size))]
        for index, plane in enumerate(chroma):
            scaled = self._memory(f"chroma{index}", (*size, *plane.shape[2:]))
            on_pixels = _falls_on_pixels(luma, size)
            if not (on_pixels or halves) and plane.shape[:2] != luma.shape[:2]:
                full = self._memory(f"full{index}", (*luma.shape[:2], *plane.shape[2:]))
                repeated = cv2.resize(plane, full.shape[1::-1], dst=full, interpolation=cv2.INTER_NEAREST)
                plane = _into(full, repeated)
            planes.append(_scale(plane, scaled, cv2.INTER_NEAREST_EXACT if on_pixels else cv2.INTER_LINEAR))
        yuv = self._memory("yuv", coloured.shape)
        cv2.merge(planes, dst=yuv)
        table = yuv_matrix(picture.matrix, picture.full_range, self._contract.order)
        cv2.transform(yuv, table, dst=coloured)

    def _write_planes(self, small: Pixels, targets: list[Array]) -> None:
        size = (small.shape[0], small.shape[1])
        if small.ndim == 2:
            channels = [small] * 3
        elif self._identity and self._shape.dtype == np.uint8:
            cv2.split(small, targets)
            return
        else:
            channels = [self._memory(f"channel{index}", size) for index in range(3)]
            cv2.split(small, channels)
        for index, (channel, target) in enumerate(zip(channels, targets, strict=True)):
            self._normalise(channel, target, index)

    def _write_interleaved(self, small: Pixels, target: Array) -> None:
        if small.ndim == 2:
            small = cast(Pixels, cv2.cvtColor(small, cv2.COLOR_GRAY2BGR))
        if self._identity:
            np.copyto(target, small)
        elif self._shape.dtype == np.float32:
            np.multiply(small, self._gain, out=target, dtype=np.float32)
            np.add(target, self._shift, out=target)
        else:
            for index in range(3):
                target[..., index] = self._tables[index][small[..., index]]

    def _normalise(self, channel: Pixels, target: Array, index: int) -> None:
        if self._identity:
            np.copyto(target, channel)
        elif self._shape.dtype == np.float32:
            np.multiply(channel, self._gain[index], out=target, dtype=np.float32)
            if self._shift[index]:
                np.add(target, self._shift[index], out=target)
        else:
            # OpenCV looks up numbers of any two bytes, if they do not call themselves float16.
            table, bits = self._tables[index], target
            if table.dtype == np.float16:
                table, bits = table.view(np.int16), target.view(np.int16)
            _into(bits, cv2.LUT(channel, table, dst=bits))

    def _memory(self, purpose: str, shape: tuple[int, ...]) -> Pixels:
        memory = self._scratch.get(purpose)
        if memory is None or memory.shape != shape:
            memory = self._scratch[purpose] = np.empty(shape, np.uint8)
        return memory


def _place(fit: Fit, shape: InputShape, width: int, height: int, sar: Fraction | None) -> Placement:
    across = width * float(sar) if sar else float(width)  # the display's shape, in units of a pixel's height
    left = top = 0
    if fit is Fit.STRETCH:
        wide, high = shape.width, shape.height
    else:
        ratio = min(shape.width / across, shape.height / height)
        if fit is Fit.TOP_LEFT:
            wide, high = int(across * ratio), int(height * ratio)
        else:
            wide, high = round(across * ratio), round(height * ratio)
        wide, high = min(max(wide, 1), shape.width), min(max(high, 1), shape.height)
    if fit is Fit.CENTER:
        # Ultralytics' LetterBox: half the margin, an odd pixel to the right and below.
        left = round((shape.width - wide) / 2 - 0.1)
        top = round((shape.height - high) / 2 - 0.1)
    return Placement(wide / width, high / height, float(left), float(top), wide, high)


def _tables(contract: InputContract, dtype: np.dtype[np.generic]) -> tuple[Array, Array, Array]:
    """Per channel, the input's value for every 8-bit value: dtype [256]."""
    steps = np.arange(256, dtype=np.float64)
    tables = []
    for mean, std in zip(contract.mean, contract.std, strict=True):
        values = (steps * contract.scale - mean) / std
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(cast("np.dtype[np.integer]", dtype))
            values = np.clip(np.rint(values), limits.min, limits.max)
        tables.append(values.astype(dtype))
    return tables[0], tables[1], tables[2]


def _scale(plane: Pixels, target: Pixels, how: int = cv2.INTER_LINEAR) -> Pixels:
    """`plane` at the size of `target`, written into it; half-pixel centres. Returns `target`."""
    (high, wide), (height, width) = plane.shape[:2], target.shape[:2]
    down, across = high // height, wide // width
    if _falls_on_pixels(plane, (height, width)):
        # At an odd whole factor every sample point falls on a pixel: 1080p to 640 is such a case. Equal to
        # cv2.resize, and three times as fast.
        np.copyto(target, plane[down // 2 :: down, across // 2 :: across])
        return target
    return _into(target, cv2.resize(plane, (width, height), dst=target, interpolation=how))


def _falls_on_pixels(plane: Pixels, size: tuple[int, int]) -> bool:
    """Whether every sample point of a picture of `size` (height, width) is a pixel's centre: odd factors."""
    (high, wide), (height, width) = plane.shape[:2], size
    return high % height == 0 and wide % width == 0 and bool((high // height) % 2 and (wide // width) % 2)


def _into(target: Array, result: object) -> Array:
    # OpenCV returns other memory when it does not like the target's; the target is what is read on.
    if result is not target:
        np.copyto(target, cast(Array, result))
    return target
