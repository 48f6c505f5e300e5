"""The slow and obvious way from a file to a model's input: PyAV's and OpenCV's own functions, full-size BGR.

What the product's fast path is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from streamd.models.contract import Array, Fit, InputContract, InputShape, Order, Placement


def pictures(path: Path, frames: set[int] | None) -> Iterator[tuple[int | None, NDArray[np.uint8]]]:
    """Upright BGR pictures uint8 [H, W, 3] of a clip with their index, or of an image (`frames` None)."""
    if frames is None:
        yield None, np.asarray(cv2.imread(str(path)), np.uint8)
        return
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in frames:
                yield index, upright(frame.to_ndarray(format="bgr24"), frame.rotation)
            if index >= max(frames):
                return


def upright(picture: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """Turned by PyAV's `frame.rotation`, which counts degrees anticlockwise."""
    return np.rot90(picture, rotation // 90).copy() if rotation else picture


def prepare(
    picture: NDArray[np.uint8], contract: InputContract, shape: InputShape
) -> tuple[Array, Placement]:
    """A batch of one, [1, 3, H, W] or [1, H, W, 3], and where the picture lies in it."""
    height, width = picture.shape[:2]
    ratio = min(shape.width / width, shape.height / height)
    if contract.fit is Fit.STRETCH:
        inner = (shape.width, shape.height)
    else:
        inner = (int(width * ratio), int(height * ratio))
    left, top = 0, 0
    if contract.fit is Fit.CENTER:
        left, top = (shape.width - inner[0]) // 2, (shape.height - inner[1]) // 2
    canvas = np.full((shape.height, shape.width, 3), contract.fill, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        picture, inner, interpolation=cv2.INTER_LINEAR
    )
    if contract.order is Order.RGB:
        canvas = canvas[:, :, ::-1]
    values: Array = canvas
    if shape.dtype != np.uint8:
        plain = canvas.astype(np.float32) * np.float32(contract.scale)
        values = (plain - np.array(contract.mean, np.float32)) / np.array(contract.std, np.float32)
    if shape.channels_first:
        values = values.transpose(2, 0, 1)
    if contract.fit is Fit.STRETCH:
        placement = Placement(inner[0] / width, inner[1] / height, 0.0, 0.0)
    else:
        placement = Placement(ratio, ratio, float(left), float(top))
    return np.ascontiguousarray(values[None], shape.dtype), placement
