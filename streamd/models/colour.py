"""Colours: plane views become RGB or BGR, with the matrix and range the picture was made with."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from streamd.core.picture import Layout, Matrix, Picture, Pixels
from streamd.models.contract import Floats, Order

# Luma coefficients (red, blue) of ITU-R BT.601-7, BT.709-6 and BT.2020-2.
_LUMA = {Matrix.BT601: (0.299, 0.114), Matrix.BT709: (0.2126, 0.0722), Matrix.BT2020: (0.2627, 0.0593)}

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
"""Degrees clockwise -> OpenCV's code."""


@cache
def yuv_matrix(matrix: Matrix, full_range: bool, order: Order) -> Floats:
    """float32 [3, 4] for cv2.transform: 8-bit (Y, U, V, 1) to 8-bit RGB or BGR, not clipped.

    From the definition: B - Y = 2 (1 - kb) U, R - Y = 2 (1 - kr) V, Y = kr R + kg G + kb B; limited range has
    219 steps of luma from 16 and 224 of chroma round 128.

    One step is taken off: swscale, through which the pictures went that models are compared and mostly fed
    with, truncates and ends 0.4 to 1.5 steps (on average 1) below the exact value.
    """
    red, blue = _LUMA[matrix]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    rows = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * blue * (1 - blue) / green * chroma, -2 * red * (1 - red) / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    offset = -rows @ np.array([black, 128.0, 128.0]) - 1.0
    table = np.column_stack([rows, offset]).astype(np.float32)
    return table if order is Order.RGB else np.ascontiguousarray(table[::-1])


def upright_bgr(picture: Picture) -> Pixels:
    """The whole picture, upright, for drawing and JPEG: uint8 [H, W, 3], blue first, its own memory.

    Chroma is repeated, not interpolated, as swscale does at full size. Safe in any thread.
    """
    bgr = _stored_bgr(picture.on_host())
    return _pixels(cv2.rotate(bgr, TURNS[picture.rotation])) if picture.rotation else bgr


def _stored_bgr(picture: Picture) -> Pixels:
    first = picture.planes[0]
    if picture.layout is Layout.RGB:
        return _pixels(cv2.cvtColor(first, cv2.COLOR_RGB2BGR))
    if picture.layout is Layout.GRAY:
        return _pixels(cv2.cvtColor(first, cv2.COLOR_GRAY2BGR))
    size = (first.shape[1], first.shape[0])
    chroma = [cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in picture.planes[1:]]
    yuv = cv2.merge([first, *chroma])
    table = yuv_matrix(picture.matrix, picture.full_range, Order.BGR)
    return _pixels(cv2.transform(yuv, table, dst=yuv))


def _pixels(array: object) -> Pixels:
    assert isinstance(array, np.ndarray)
    return array
