"""From a head's candidates to the detections of one picture, by the rules of its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.core.errors import ConfigError
from streamd.core.nearest import nearest
from streamd.models.contract import Candidates, Detections, Floats, Placement
from streamd.models.nms import ranking, ranking_of_each, suppress

DEFAULT_CONFIDENCE = 0.25
_ON_EDGE = 1e-6
"""Relative distance at which a point counts as lying on the region's edge, and so inside."""

Region = tuple[tuple[float, float], ...]
"""Corners (x, y) of a polygon, relative to the upright picture: 0 to 1."""


class Sight(NamedTuple):
    """How a picture is looked at: where it lies in the input, its size in stored pixels, and what counts in it."""

    placement: Placement
    width: int
    height: int
    rules: Rules


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What counts as a detection in one stream.

    floors float32 [classes]: the lowest score that counts, per class; infinite for classes that are not kept.
    iou: of two boxes of a class that overlap by more, the better one stays. min_size: (width, height) in
    source pixels.
    """

    floors: Floats
    iou: float
    region: Region | None = None
    min_size: tuple[float, float] | None = None


def rules_for(
    labels: Sequence[str],
    *,
    confidence: float | Mapping[str, float] = DEFAULT_CONFIDENCE,
    iou: float = 0.45,
    classes: Sequence[str] | None = None,
    region: Sequence[Sequence[float]] | None = None,
    min_size: Sequence[float] | None = None,
) -> Rules:
    """The rules of a stream for a model whose class i is called `labels[i]`.

    confidence: one floor, or one per class name, with `default` for the others (0.25 without it). classes:
    keep only these names. region, min_size: see `Rules`.
    Raises ConfigError, naming the key and what is allowed; the nearest known name for an unknown class.
    """
    floors = _floors(labels, confidence)
    if classes is not None:
        kept = [number for name in classes for number in _numbers(name, labels, "classes")]
        dropped = np.ones(len(labels), np.bool_)
        dropped[kept] = False
        floors[dropped] = np.inf
    corners = None if region is None else _region(region)
    size = None
    if min_size is not None:
        if len(min_size) != 2 or not all(0 <= side < np.inf for side in min_size):
            raise ConfigError(f"min_size: [width, height] in pixels, not {list(min_size)}")
        size = (float(min_size[0]), float(min_size[1]))
    return Rules(floors, _share(iou, "iou"), corners, size)


def select(
    candidates: Candidates, placement: Placement, width: int, height: int, rules: Rules, nms: bool
) -> Detections:
    """The detections of one picture, best first; equal scores keep the order of the candidates.

    placement, width, height: where the upright source picture lies in the input, and its size in stored
    pixels. nms: whether the head's candidates still need suppression, which works on unclipped boxes in
    input pixels.
    At most 1000 candidates of a picture, the best ones, are looked at.
    """
    order = (
        suppress(candidates.boxes, candidates.scores, candidates.class_ids, rules.iou)
        if nms
        else ranking(candidates.scores)
    )
    found, _ = _chosen(candidates, order, placement, width, height, rules)
    return found


def select_each(
    candidates: Candidates, pictures: NDArray[np.int64], count: int, sight: Sight
) -> list[Detections]:
    """As `select`, for each of `count` pictures that are looked at alike, by a head that needs no suppression.

    pictures int64 [n], ascending: which of them each candidate is of.
    """
    order = ranking_of_each(candidates.scores, pictures, count)
    found, order = _chosen(candidates, order, *sight)
    ends = np.searchsorted(pictures.take(order), np.arange(count + 1)).tolist()
    points = found.keypoints
    return [
        Detections(
            found.boxes[first:end],
            found.scores[first:end],
            found.class_ids[first:end],
            None if points is None else points[first:end],
        )
        for first, end in pairwise(ends)
    ]


def _chosen(
    candidates: Candidates,
    order: NDArray[np.intp],
    placement: Placement,
    width: int,
    height: int,
    rules: Rules,
) -> tuple[Detections, NDArray[np.intp]]:
    """Those of the candidates `order` that the rules want, in the source's pixels, and which they are."""
    offset, scale = placement.offset, placement.scale
    boxes = candidates.boxes.take(order, axis=0)
    corners = boxes.reshape(-1, 2, 2)
    np.subtract(corners, offset, out=corners)
    np.divide(corners, scale, out=corners)
    # Not np.clip, whose way to the same two calls costs more than they do.
    np.maximum(corners, 0, out=corners)
    np.minimum(corners, _edges(width, height), out=corners)
    kept = _wanted(boxes, width, height, rules)
    if kept is not None:
        boxes, order = boxes[kept], order[kept]
    keypoints = candidates.keypoints
    found = Detections(
        boxes,
        candidates.scores[order],
        candidates.class_ids[order],
        None if keypoints is None else (keypoints[order] - offset) / scale,
    )
    return found, order


@lru_cache
def _edges(width: int, height: int) -> Floats:
    return np.array([width, height], np.float32)


def _wanted(boxes: Floats, width: int, height: int, rules: Rules) -> NDArray[np.bool_] | None:
    """Which boxes, in source pixels and clipped, have an area and pass the filters of place and size; None: all."""
    sides = boxes[:, 2:] - boxes[:, :2]
    if rules.min_size is None and rules.region is None and sides.min(initial=1) > 0:
        return None
    kept: NDArray[np.bool_] = np.logical_and.reduce(sides > 0, axis=1)
    if rules.min_size is not None:
        kept &= np.logical_and.reduce(sides >= np.array(rules.min_size, np.float32), axis=1)
    if rules.region is not None:
        x = (boxes[:, 0] + boxes[:, 2]) / (2 * width)
        kept &= inside(rules.region, x, boxes[:, 3] / height)
    return kept


def inside(region: Region, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points lie in the polygon (even-odd rule), or on its edge, as objects cut by the picture do."""
    odd = np.zeros(len(x), np.bool_)
    edge = np.zeros(len(x), np.bool_)
    for (ax, ay), (bx, by) in zip(region, (*region[1:], region[0]), strict=True):
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1) if length else np.zeros(len(x))
        edge |= np.hypot(x - ax - along * dx, y - ay - along * dy) <= _ON_EDGE
        if dy:
            odd ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * dx / dy)
    return odd | edge


def _floors(labels: Sequence[str], confidence: float | Mapping[str, float]) -> Floats:
    if not isinstance(confidence, Mapping):
        return np.full(len(labels), _share(confidence, "confidence"), np.float32)
    default = _share(confidence.get("default", DEFAULT_CONFIDENCE), "confidence: default")
    floors = np.full(len(labels), default, np.float32)
    for name, floor in confidence.items():
        if name != "default" or "default" in labels:
            floors[_numbers(name, labels, "confidence")] = _share(floor, f"confidence: {name}")
    return floors


def _numbers(name: str, labels: Sequence[str], key: str) -> list[int]:
    """The classes of that name; more than one when the model has doubles."""
    numbers = [number for number, label in enumerate(labels) if label == name]
    if not numbers:
        some = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
        raise ConfigError(f"{key}: the model has no class {name!r}{nearest(name, labels)}; it has {some}")
    return numbers


def _region(corners: Sequence[Sequence[float]]) -> Region:
    if len(corners) < 3 or any(len(corner) != 2 for corner in corners):
        raise ConfigError("region: a polygon has at least 3 corners [x, y]")
    if not all(0 <= part <= 1 for corner in corners for part in corner):
        raise ConfigError("region: corners are relative to the picture, 0 to 1; these look like pixels")
    return tuple((float(corner[0]), float(corner[1])) for corner in corners)


def _share(value: float, key: str) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"{key}: a number from 0 to 1, not {value}")
    return float(value)
