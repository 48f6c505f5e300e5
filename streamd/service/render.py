"""Boxes drawn into pictures, and pictures as JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from loguru import logger

from streamd.bus import wire
from streamd.core.errors import StreamdError
from streamd.core.picture import Picture, Pixels
from streamd.models.colour import upright_bgr
from streamd.models.contract import Detections

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LARGEST_SIDE = 65_500  # libjpeg's limit


def colour_of(class_id: int) -> tuple[int, int, int]:
    """A colour (BGR) for a class: the same in every run, far from its neighbours', bright enough to see."""
    hue = np.uint8((class_id * 47 + 60) % 180)
    b, g, r = cv2.cvtColor(np.array([[[hue, 210, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(b), int(g), int(r)


def draw(picture: Pixels, detections: Detections, labels: Sequence[str]) -> None:
    """Draw boxes with class and score into a BGR picture [H, W, 3], in place; worst first, best on top."""
    for i in reversed(range(len(detections))):
        class_id = int(detections.class_ids[i])
        points = detections.keypoints
        _mark(
            picture,
            class_id,
            f"{labels[class_id]} {float(detections.scores[i]):.2f}",
            [float(value) for value in detections.boxes[i]],
            () if points is None else [(float(x), float(y)) for x, y in points[i]],
        )


def annotate(file: bytes, objects: Sequence[wire.Object], suffix: str) -> bytes:
    """A published picture (a JPEG file) with its objects drawn in, as a file of this kind: `.jpg`, `.png`.

    Raises StreamdError for what is no picture.
    """
    try:
        picture = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) if file else None
        if picture is None:
            raise StreamdError("what came is no JPEG; pictures come from the endpoint publish.frames")
        for one in reversed(objects):
            points = one.keypoints if isinstance(one.keypoints, list) else ()
            _mark(picture, one.class_id, f"{one.class_name} {one.score:.2f}", one.box, points)
        _, encoded = cv2.imencode(suffix, picture)
    except cv2.error as error:
        raise StreamdError(f"the picture cannot be drawn into: {error.err}") from error
    return bytes(encoded)


def _mark(
    picture: Any,
    class_id: int,
    text: str,
    box: Sequence[float],
    points: Sequence[tuple[float, float]],
) -> None:
    height, width = picture.shape[:2]
    thickness = max(1, round(min(height, width) / 360))
    colour = colour_of(class_id)
    # What a message says need not lie in the picture, and OpenCV takes 32 bits.
    x1, y1, x2, y2 = (round(min(max(value, -1e6), 1e6)) for value in box)
    # Edges are exclusive: the last pixel inside is one less.
    cv2.rectangle(picture, (x1, y1), (max(x1, x2 - 1), max(y1, y2 - 1)), colour, thickness)
    _label(picture, text, (x1, y1), colour, max(0.4, min(height, width) / 900))
    for x, y in points:
        centre = (round(min(max(x, -1e6), 1e6)), round(min(max(y, -1e6), 1e6)))
        cv2.circle(picture, centre, thickness + 1, colour, -1)


def _label(
    picture: Pixels, text: str, corner: tuple[int, int], colour: tuple[int, int, int], scale: float
) -> None:
    """Dark text on a filled bar above the box, or inside where there is no room above."""
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    x, y = corner
    x = max(0, min(x, picture.shape[1] - text_width - 4))
    bottom = y if y >= text_height + baseline + 2 else y + text_height + baseline + 2
    top = bottom - text_height - baseline - 2
    cv2.rectangle(picture, (x, top), (x + text_width + 4, bottom), colour, -1)
    cv2.putText(picture, text, (x + 2, bottom - baseline), _FONT, scale, (20, 20, 20), 1, cv2.LINE_AA)


class JpegEncoder:
    """Source pictures, upright and without boxes, as JPEG. For one thread."""

    def __init__(self, quality: int) -> None:
        self._options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        self._told: set[str] = set()

    def __call__(self, stream: str, picture: Picture) -> bytes | None:
        """The file, in stored pixels; None for a picture that cannot be one, which is logged once for each stream."""
        if max(picture.width, picture.height) > _LARGEST_SIDE:
            problem = f"a JPEG holds at most {_LARGEST_SIDE} pixels a side"
        else:
            try:
                encoded, file = cv2.imencode(".jpg", upright_bgr(picture), self._options)
            except cv2.error as error:
                encoded, problem = False, str(error.err)
            else:
                problem = "OpenCV gave no JPEG"
            if encoded:
                return bytes(file)
        if stream not in self._told:
            self._told.add(stream)
            size = f"{picture.width}x{picture.height}"
            logger.warning("{}: no picture of {} is sent: {}; the results go on", stream, size, problem)
        return None
