"""What heads share: the grid that rows stand for, the best class of a row, the last checks of candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Floats, Graph, InputShape, Tensor
from streamd.models.picture_input import spell

THREE_LEVELS = (8, 16, 32)
FOUR_LEVELS = (8, 16, 32, 64)
_FINE_LEVELS = (4, 8, 16, 32)
_HIGHEST_SCORE = 1.1
"""Scores are probabilities; quantised models overshoot 1 a little, raw logits by far."""
_FARTHEST = np.float32(1e6)
"""Pixels; whatever lies farther away is moved there, so that nobody's arithmetic overflows."""


def cells(picture: InputShape, stride: int) -> tuple[int, int]:
    """How many cells of `stride` pixels cover the input: (across, down)."""
    return (math.ceil(picture.width / stride), math.ceil(picture.height / stride))


def level_rows(picture: InputShape, stride: int) -> int:
    """Rows of one level, one per cell."""
    across, down = cells(picture, stride)
    return across * down


def levels_of(rows: object, picture: InputShape, per_cell: int = 1) -> tuple[int, ...] | None:
    """The strides whose grids have `rows` rows together (`per_cell` anchors a cell); None when none have."""
    for strides in (THREE_LEVELS, FOUR_LEVELS, _FINE_LEVELS):
        if rows == per_cell * sum(level_rows(picture, stride) for stride in strides):
            return strides
    return None


def grid(picture: InputShape, strides: Sequence[int]) -> tuple[Floats, Floats]:
    """The cells of all levels, row by row: x, y float32 [rows, 2] in cells, and strides float32 [rows, 1]."""
    corners, sizes = [], []
    for stride in strides:
        across, down = cells(picture, stride)
        x, y = np.meshgrid(np.arange(across), np.arange(down))
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        sizes.append(np.full((across * down, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def picture_row(output: Array, row: int, shape: tuple[int | None, ...], name: str) -> Array:
    """Output `name` for picture `row`, which must have `shape` (None: any). Raises ModelError otherwise."""
    picture: Array = as_declared(output, shape, name)[row]
    return picture


def as_declared(output: Array, shape: tuple[int | None, ...], name: str) -> Array:
    """Output `name`, which must have `shape` (None: any) for each picture. Raises ModelError otherwise."""
    if not _fits(output.shape[1:], shape):
        wanted = ", ".join("?" if dim is None else str(dim) for dim in shape)
        raise ModelError(
            f"the model's output {name!r} came out as {list(output.shape)} where [n, {wanted}] was declared; "
            "export the model again"
        )
    return output


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    if found == shape:
        return True
    return len(found) == len(shape) and all(map(_either, shape, found))


def _either(wanted: int | None, found: int) -> bool:
    return wanted is None or wanted == found


def floats(values: Array) -> Floats:
    """As float32: maxima over float16 are some 24 times slower."""
    return values.astype(np.float32, copy=False)


def sigmoid(values: Floats) -> Floats:
    """The logistic function; 0 and 1 where float32 cannot tell any more."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (1 / (1 + np.exp(-values))).astype(np.float32, copy=False)


def whole(values: Array) -> NDArray[np.int64]:
    """Class numbers as integers; -1, which no class has, for what is no number."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    # fmin and fmax leave the number where the other is none.
    return np.fmin(np.fmax(values, -1), 1e6).round().astype(np.int64)


def reaching(scores: Floats, class_ids: NDArray[np.int64], floors: Floats) -> NDArray[np.intp]:
    """Indices of the rows whose score reaches the floor of their class; a class beyond the floors has none."""
    wanted = floors.take(class_ids, mode="clip")
    found = (scores >= wanted) & (class_ids >= 0) & (class_ids < len(floors))
    return found.nonzero()[0]


def likely(values: Array, floor: float, axis: int) -> NDArray[np.intp]:
    """Indices along the other axis of `values` [n, m] whose largest value may reach `floor` (0 at least).

    Half precision is compared by its bits, which for positive numbers are in the order of the numbers: numpy
    takes ten times as long to convert them all, or to compare them as numbers. Rounding errs on the side of
    too many.
    """
    if values.dtype == np.float16:
        with np.errstate(over="ignore"):
            bits = int(np.float16(floor).view(np.int16)) - 1
        return np.flatnonzero(values.view(np.int16).max(axis=axis) >= bits)
    return np.flatnonzero(floats(values).max(axis=axis) >= floor)


def best_classes(rows: Array, floors: Floats) -> tuple[NDArray[np.intp], Floats, NDArray[np.int64]]:
    """Of class scores [n, classes]: which rows count, their best score and its class."""
    rising = likely(rows, floors.min(), axis=1)
    few = floats(rows[rising])
    class_ids = few.argmax(axis=1).astype(np.int64)
    scores = few[np.arange(len(few)), class_ids]
    kept = reaching(scores, class_ids, floors)
    return rising[kept], scores[kept], class_ids[kept]


def best_with_objectness(raw: Array, floors: Floats) -> tuple[NDArray[np.intp], Floats, NDArray[np.int64]]:
    """As `best_classes`, for rows [n, 5 + classes] of box, objectness, classes; score: objectness * class."""
    rising = likely(raw[:, 4:5], floors.min(), axis=1)  # a class probability only lowers it
    few = floats(raw[rising, 4:])
    with np.errstate(all="ignore"):
        picked, scores, class_ids = best_classes(few[:, 1:] * few[:, :1], floors)
    return rising[picked], scores, class_ids


def typical(values: Floats) -> float:
    """The median of the finite ones, which no outlier moves; 0 when there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def corners(centres: Floats, sizes: Floats) -> Floats:
    """Boxes x1, y1, x2, y2 from centres [n, 2] and sizes [n, 2]."""
    half = sizes / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def candidates(
    boxes: Floats,
    scores: Floats,
    class_ids: NDArray[np.int64],
    keypoints: Floats | None = None,
    pictures: NDArray[np.int64] | None = None,
) -> Candidates:
    """Without the rows that hold anything but finite numbers.

    Raises ModelError for scores that are no probabilities.
    """
    # Nearly always nothing is wrong, which a few looks tell: no comparison holds for what is no number.
    sound = np.abs(boxes).max(initial=0) <= _FARTHEST and scores.max(initial=0) <= 1
    if sound and (keypoints is None or np.abs(keypoints).max(initial=0) <= _FARTHEST):
        return Candidates(boxes, scores, class_ids, keypoints, pictures)
    return _mended(Candidates(boxes, scores, class_ids, keypoints, pictures))


def _mended(found: Candidates) -> Candidates:
    boxes, scores, class_ids = found.boxes, found.scores, found.class_ids
    keypoints, pictures = found.keypoints, found.pictures
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    if keypoints is not None:
        finite &= np.isfinite(keypoints).all(axis=(1, 2))
    if not finite.all():
        boxes, scores, class_ids = boxes[finite], scores[finite], class_ids[finite]
        keypoints = None if keypoints is None else keypoints[finite]
        pictures = None if pictures is None else pictures[finite]
    highest = scores.max(initial=0.0)
    if highest > _HIGHEST_SCORE:
        raise ModelError(
            f"the model's scores reach {highest:.4g}, so they are no probabilities and its outputs not what "
            "this head reads; set another head"
        )
    boxes = np.clip(boxes, -_FARTHEST, _FARTHEST)
    if keypoints is not None:
        keypoints = np.clip(keypoints, -_FARTHEST, _FARTHEST)
    return Candidates(boxes, np.minimum(scores, np.float32(1.0)), class_ids, keypoints, pictures)


def refuse(graph: Graph, family: str, wants: str) -> ModelError:
    """The error for outputs that do not fit a family."""
    return ModelError(f"head {family} wants {wants}; the model has the outputs {spell(graph.outputs)}")


def only(outputs: Sequence[Tensor], dimensions: int) -> Tensor | None:
    """The output, when there is just one and it has so many dimensions."""
    if len(outputs) == 1 and len(outputs[0].shape) == dimensions:
        return outputs[0]
    return None


def count(dim: int | str | None) -> int:
    """A dimension as a number; 0 when the file does not tell it."""
    return dim if isinstance(dim, int) else 0
