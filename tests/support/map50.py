"""Mean average precision at IoU 0.5 (mAP50).

Per class, the detections of all frames are taken in falling order of score. Each is
compared with the objects of its own class and frame:

* it is right if, among the counted objects not yet found, the one it overlaps most has
  an IoU of at least 0.5; that object is then found;
* otherwise, if it overlaps an object marked `ignore` with an IoU of at least 0.5, or if
  at least half of its own area lies on one, it is left out: neither right nor false;
* otherwise it is false. Finding the same object twice is false.

Objects marked `ignore` are never misses. The average precision is the area under the
precision-recall curve at all points, after making precision fall with recall (each
precision replaced by the largest at the same or any higher recall). mAP50 is the mean
over the classes that have at least one counted object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one frame: boxes [n, 4] x1, y1, x2, y2; scores [n]; labels [n]."""

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Objects:
    """What is in one frame: boxes [m, 4] x1, y1, x2, y2; labels [m]; ignore [m]."""

    boxes: NDArray[np.floating]
    labels: NDArray[np.integer]
    ignore: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Result:
    """`ap` maps each class index to its AP50; `objects` to how many objects counted."""

    map50: float
    ap: dict[int, float]
    objects: dict[int, int]


def _overlaps(box: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return the IoU with each of `others`, and the share of `box` that lies on each."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inner = np.clip(sides, 0, None).prod(axis=1)
    own = float((box[2:] - box[:2]).prod())
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return inner / np.maximum(own + areas - inner, 1e-9), inner / max(own, 1e-9)


def area_under(recall: Floats, precision: Floats) -> float:
    """Return the all-point area under a precision-recall curve (recall not falling)."""
    r = np.concatenate([[0.0], recall, [1.0]])
    p = np.concatenate([[1.0], precision, [0.0]])
    p = np.maximum.accumulate(p[::-1])[::-1]
    return float(np.sum(np.diff(r) * p[1:]))


def _average_precision(
    detections: Sequence[Detections], truth: Sequence[Objects], label: int, iou: float
) -> tuple[float, int]:
    counted: list[Floats] = []
    ignored: list[Floats] = []
    for objects in truth:
        own = objects.labels == label
        boxes = np.asarray(objects.boxes, np.float64).reshape(-1, 4)
        counted.append(boxes[own & ~objects.ignore])
        ignored.append(boxes[own & objects.ignore])
    total = sum(len(boxes) for boxes in counted)
    if total == 0:
        return 0.0, 0

    candidates = [
        (float(score), frame, np.asarray(box, np.float64))
        for frame, found in enumerate(detections)
        for box, score, kind in zip(found.boxes, found.scores, found.labels, strict=True)
        if kind == label
    ]
    candidates.sort(key=lambda candidate: -candidate[0])
    free = [np.ones(len(boxes), bool) for boxes in counted]
    right: list[bool] = []
    for _, frame, box in candidates:
        overlaps = np.where(free[frame], _overlaps(box, counted[frame])[0], -1.0)
        best = int(overlaps.argmax()) if overlaps.size else -1
        if best >= 0 and overlaps[best] >= iou:
            free[frame][best] = False
            right.append(True)
            continue
        shared, covered = _overlaps(box, ignored[frame])
        if not np.any((shared >= iou) | (covered >= 0.5)):
            right.append(False)
    hits = np.cumsum(np.asarray(right, np.float64))
    return area_under(hits / total, hits / np.arange(1, len(right) + 1)), total


def map50(
    detections: Sequence[Detections], truth: Sequence[Objects], classes: int = 2, iou: float = 0.5
) -> Result:
    """Return mAP50 and the AP of each class over frames given in the same order in both."""
    if len(detections) != len(truth):
        raise ValueError(f"{len(detections)} frames of detections, {len(truth)} frames of truth")
    found = {label: _average_precision(detections, truth, label, iou) for label in range(classes)}
    present = {label: (ap, count) for label, (ap, count) in found.items() if count}
    mean = float(np.mean([ap for ap, _ in present.values()])) if present else 0.0
    return Result(mean, {k: ap for k, (ap, _) in present.items()}, {k: n for k, (_, n) in present.items()})
