"""The letterbox: a picture of any size and format is written straight into a model's input."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import cv2
import numpy as np

from streamd.core.picture import Picture, Pixels
from streamd.models.contract import Array, Fit, Floats, InputContract, InputShape, Placement
from streamd.models.resize import Resizer, into


class Letterbox:
    """Writes pictures into inputs of one model. One per stream and thread: it reuses its scratch memory."""

    def __init__(self, contract: InputContract, shape: InputShape) -> None:
        self._contract = contract
        self._shape = shape
        self._gain, self._shift = contract.gain_and_shift()
        self._identity = bool(np.all(self._gain == 1) and np.all(self._shift == 0))
        self._tables = _tables(contract, shape.dtype)
        self._placed: tuple[tuple[int, int, Fraction | None], Placement] | None = None
        self._resizer = Resizer(contract.order)

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
        Allocates no arrays once warm for 8-bit YUV pictures of one size.
        """
        picture = picture.on_host()
        placement = self.place(picture.width, picture.height, picture.sar)
        if placement is not previous and placement != previous:
            self._fill(pixels)
        height, width = placement.height, placement.width
        left, top = int(placement.offset_x), int(placement.offset_y)
        rows, columns = slice(top, top + height), slice(left, left + width)
        if self._shape.channels_first:
            targets = [pixels[channel, rows, columns] for channel in range(3)]
            if self._identity and pixels.dtype == np.uint8:
                self._resizer.write_planes(picture, targets)
            else:
                for index, plane in enumerate(self._resizer.planes(picture, height, width)):
                    self._write_plane(plane, targets[index], index)
        else:
            self._write_interleaved(self._resizer.interleaved(picture, height, width), pixels[rows, columns])
        return placement

    # -- pixels ----------------------------------------------------------------------------------------

    def _fill(self, pixels: Array) -> None:
        for channel, table in enumerate(self._tables):
            (pixels[channel] if self._shape.channels_first else pixels[..., channel])[...] = table[
                self._contract.fill
            ]

    def _write_plane(self, plane: Pixels, target: Array, index: int) -> None:
        if self._identity:
            np.copyto(target, plane)
        elif self._shape.dtype == np.float32:
            _convert(plane, float(self._gain[index]), float(self._shift[index]), target)
        else:
            # OpenCV looks up numbers of any two bytes, if they do not call themselves float16.
            table, bits = self._tables[index], target
            if table.dtype == np.float16:
                table, bits = table.view(np.int16), target.view(np.int16)
            into(bits, cv2.LUT(plane, table, dst=bits))

    def _write_interleaved(self, small: Pixels, target: Array) -> None:
        if self._identity:
            np.copyto(target, small)
        elif self._shape.dtype == np.float32:
            np.multiply(small, self._gain, out=target, dtype=np.float32)
            np.add(target, self._shift, out=target)
        else:
            for index in range(3):
                target[..., index] = self._tables[index][small[..., index]]


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


def _convert(plane: Pixels, gain: float, shift: float, target: Floats) -> None:
    """target = plane * gain + shift, in one pass; gain > 0."""
    # OpenCV has this as convertTo, which Python cannot call. Its normalize does the same when it is told to
    # take the plane's own extremes to where gain and shift take them.
    low, high, _, _ = cv2.minMaxLoc(plane)
    ends = low * gain + shift, high * gain + shift
    into(target, cv2.normalize(plane, target, *ends, cv2.NORM_MINMAX, cv2.CV_32F))
