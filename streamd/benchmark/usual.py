"""The loop that most people write first, here to be compared with: nothing of streamd's path is in it.

OpenCV reads the clip, resizes the full-size BGR picture, puts a border around it; ONNX Runtime runs the model with
default options; numpy decodes every row, OpenCV suppresses. One thread, one picture at a time. It is written as it is
usually written, neither slowed down nor tuned, and gives the same model the same pictures as streamd does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from streamd.core.errors import StreamdError, UsageError
from streamd.models.contract import Array, Detections, Fit, Floats, InputContract, InputShape, Order
from streamd.models.description import Description
from streamd.models.selection import Rules

_Rows = tuple[Floats, Floats, NDArray[np.int64]]
"""Corners in input pixels [n, 4], scores [n], classes [n]."""


class UsualLoop:
    """A session with default options and all that goes around it. One thread."""

    def __init__(self, description: Description, rules: Rules, provider: str) -> None:
        """provider: ONNX Runtime's name of what streamd runs the model on; off the CPU this one takes CUDA.

        Raises UsageError for a model that this loop cannot run, StreamdError when the provider does not run here.
        """
        shape = description.graph.input
        if description.family not in _DECODERS or shape.batch not in (None, 1) or not shape.channels_first:
            raise UsageError(
                f"--compare knows models of the heads {', '.join(_DECODERS)} that take pictures [1, 3, H, W]; "
                f"this one has the head {description.family} and takes {shape.batch or 1} of {list(shape.picture)}"
            )
        wanted = provider if provider == "CPUExecutionProvider" else "CUDAExecutionProvider"
        self._session = onnxruntime.InferenceSession(str(description.path), providers=[wanted])
        self.provider = str(self._session.get_providers()[0])
        if self.provider != wanted:
            raise StreamdError(f"--compare: ONNX Runtime's default options give no {wanted} here")
        self._contract, self._shape = description.contract, shape
        self._decode = _DECODERS[description.family]
        self._confidence = float(rules.floors.min())
        self._iou = rules.iou

    def run(self, clip: Path, max_frames: int | None = None) -> list[Detections]:
        """What is seen in each frame of the clip. Raises StreamdError when OpenCV cannot read it."""
        return [self._detect(image) for image in _frames(clip, max_frames)]

    def _detect(self, image: Array) -> Detections:
        tensor, ratio, left, top = letterboxed(image, self._contract, self._shape)
        (output, *_) = self._session.run(None, {self._shape.name: tensor[None]})
        boxes, scores, classes = self._decode(output[0].astype(np.float32), self._shape, self._confidence)
        if self._decode is not _end2end and len(boxes):
            sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            kept = cv2.dnn.NMSBoxesBatched(
                sides.tolist(), scores.tolist(), classes.tolist(), self._confidence, self._iou
            )
            picked = np.array(kept, np.int64).reshape(-1)
            boxes, scores, classes = boxes[picked], scores[picked], classes[picked]
        height, width = image.shape[:2]
        boxes = (boxes - np.array([left, top] * 2)) / np.array([*ratio, *ratio])
        boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        return Detections(boxes, scores, classes)


def _frames(clip: Path, max_frames: int | None) -> Iterator[Array]:
    capture = cv2.VideoCapture(str(clip))
    try:
        if not capture.isOpened():
            raise StreamdError(f"{clip}: OpenCV cannot open it, so there is nothing to compare with")
        count = 0
        while max_frames is None or count < max_frames:
            there, image = capture.read()
            if not there:
                return
            count += 1
            yield image
    finally:
        capture.release()


def letterboxed(
    image: Array, contract: InputContract, shape: InputShape
) -> tuple[Array, tuple[float, float], int, int]:
    """The input [3, H, W], the scales in x and y, and the border to the left and above.

    image: uint8 [H, W, 3], blue first.
    """
    height, width = image.shape[:2]
    if contract.fit is Fit.STRETCH:
        wide, high = shape.width, shape.height
    else:
        ratio = min(shape.width / width, shape.height / height)
        wide, high = round(width * ratio), round(height * ratio)
    small = cv2.resize(image, (wide, high))
    across, down = shape.width - wide, shape.height - high
    left, top = (across // 2, down // 2) if contract.fit is Fit.CENTER else (0, 0)
    small = cv2.copyMakeBorder(
        small, top, down - top, left, across - left, cv2.BORDER_CONSTANT, value=(contract.fill,) * 3
    )
    if contract.order is Order.RGB:
        small = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    tensor: Array = np.ascontiguousarray(small.transpose(2, 0, 1))
    if shape.dtype != np.uint8:
        tensor = tensor.astype(np.float32) * np.float32(contract.scale)
        if any(contract.mean) or any(part != 1 for part in contract.std):
            mean, std = (
                np.array(part, np.float32).reshape(3, 1, 1) for part in (contract.mean, contract.std)
            )
            tensor = (tensor - mean) / std
        tensor = tensor.astype(shape.dtype)
    return tensor, (wide / width, high / height), left, top


# -- what the outputs of the common heads mean ---------------------------------------------------------


def _best(boxes: Floats, scores: Floats, confidence: float) -> _Rows:
    """boxes: centre and size. The best class of each row, where it reaches the threshold."""
    classes = scores.argmax(axis=1)
    best = scores.max(axis=1)
    kept = best >= confidence
    middle, half = boxes[kept, :2], boxes[kept, 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=1), best[kept], classes[kept]


def _yolo(output: Floats, shape: InputShape, confidence: float) -> _Rows:
    rows = output.T
    return _best(rows[:, :4], rows[:, 4:], confidence)


def _yolov5(output: Floats, shape: InputShape, confidence: float) -> _Rows:
    return _best(output[:, :4], output[:, 5:] * output[:, 4:5], confidence)


def _yolox(output: Floats, shape: InputShape, confidence: float) -> _Rows:
    grids, strides = [], []
    for stride in (8, 16, 32):
        across, down = shape.width // stride, shape.height // stride
        x, y = np.meshgrid(np.arange(across), np.arange(down))
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((across * down, 1), stride))
    grid, stride_of = np.concatenate(grids), np.concatenate(strides)
    middle = (output[:, :2] + grid) * stride_of
    size = np.exp(output[:, 2:4]) * stride_of
    boxes = np.concatenate([middle, size], axis=1).astype(np.float32)
    return _best(boxes, output[:, 5:] * output[:, 4:5], confidence)


def _end2end(output: Floats, shape: InputShape, confidence: float) -> _Rows:
    rows = output[output[:, 4] >= confidence]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)


_DECODERS: dict[str, Callable[[Floats, InputShape, float], _Rows]] = {
    "yolo": _yolo,
    "yolov5": _yolov5,
    "yolox": _yolox,
    "end2end": _end2end,
}
