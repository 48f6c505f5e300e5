"""A transparent canvas in metres, drawn larger than needed and averaged down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Point = tuple[float, float]

_SHIFT = 4  # cv2 takes fixed-point coordinates: 4 fractional bits


def shade(colour: Colour, factor: float) -> Colour:
    """Return the BGR colour made darker (factor < 1) or lighter (factor > 1)."""
    b, g, r = (min(255.0, max(0.0, c * factor)) for c in colour)
    return b, g, r


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the BGR colour that holds `share` (0..1) of the second."""
    b, g, r = (a + (c - a) * share for a, c in zip(first, second, strict=True))
    return b, g, r


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn figure ready to be laid over a frame.

    `pixels` is float32 [h, w, 4], BGR already multiplied by alpha, alpha 0..1;
    `left`/`top` is where its first pixel lies in the frame and may be negative.
    """

    pixels: NDArray[np.float32]
    left: int
    top: int


class Canvas:
    """Draws in metres around one point on the ground: x to the right, y up.

    Anti-aliased drawing of an opaque colour onto zeros gives colours already
    multiplied by alpha, which is what averaging down and compositing want.
    """

    def __init__(
        self,
        ground: Point,
        pixels_per_metre: float,
        extent: tuple[float, float, float, float],
        mirrored: bool = False,
    ) -> None:
        """`ground`: frame pixel of the origin; `extent`: left, right, down, up in metres."""
        left, right, down, up = extent
        if mirrored:
            left, right = right, left
        self._left = int(np.floor(ground[0] - left * pixels_per_metre)) - 1
        self._top = int(np.floor(ground[1] - up * pixels_per_metre)) - 1
        width = int(np.ceil((left + right) * pixels_per_metre)) + 3
        height = int(np.ceil((up + down) * pixels_per_metre)) + 3
        self._over = 4 if height < 90 else 2
        self._scale = pixels_per_metre * self._over
        self._x0 = (ground[0] - self._left) * self._over
        self._y0 = (ground[1] - self._top) * self._over
        self._flip = -1.0 if mirrored else 1.0
        self._image = np.zeros((height * self._over, width * self._over, 4), np.uint8)

    def _fixed(self, points: Sequence[Point]) -> NDArray[np.int32]:
        xy = np.asarray(points, np.float64)
        x = self._x0 + self._flip * xy[:, 0] * self._scale
        y = self._y0 - xy[:, 1] * self._scale
        return np.round(np.stack([x, y], axis=1) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon given in metres."""
        cv2.fillPoly(self._image, [self._fixed(points)], (*colour, 255.0), cv2.LINE_AA, _SHIFT)

    def rectangle(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        """Fill an upright rectangle given in metres."""
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour)

    def limb(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line with round ends and joints; `width` in metres."""
        thickness = max(1, round(width * self._scale))
        cv2.polylines(
            self._image, [self._fixed(points)], False, (*colour, 255.0), thickness, cv2.LINE_AA, _SHIFT
        )

    def ellipse(self, centre: Point, rx: float, ry: float, colour: Colour, angle: float = 0.0) -> None:
        """Fill an ellipse; radii in metres, angle in degrees."""
        middle = self._fixed([centre])[0]
        axes = [max(1, round(r * self._scale * (1 << _SHIFT))) for r in (rx, ry)]
        cv2.ellipse(
            self._image,
            middle.tolist(),
            axes,
            -angle * self._flip,
            0,
            360,
            (*colour, 255.0),
            -1,
            cv2.LINE_AA,
            _SHIFT,
        )

    def finish(self) -> Sprite:
        """Average down to frame pixels."""
        height, width = self._image.shape[0] // self._over, self._image.shape[1] // self._over
        small = cv2.resize(self._image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        small[..., 3] *= 1.0 / 255.0
        return Sprite(small, self._left, self._top)
