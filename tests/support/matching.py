"""How detections are compared with references, by the rule that the references' README gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamd.models.contract import Floats

IOU = 0.85
SCORE = 0.05


@dataclass
class Tally:
    """Counts of references, those met, detections that count, and those without a reference."""

    references: int = 0
    met: int = 0
    detections: int = 0
    extra: int = 0
    misses: list[str] = field(default_factory=list)

    @property
    def met_share(self) -> float:
        return self.met / self.references if self.references else 1.0

    @property
    def extra_share(self) -> float:
        return self.extra / self.detections if self.detections else 0.0

    def add(self, other: Tally) -> None:
        self.references += other.references
        self.met += other.met
        self.detections += other.detections
        self.extra += other.extra
        self.misses += other.misses

    def row(self, name: str) -> str:
        return (
            f"{name:<52} {self.met:>6} of {self.references:>6} met {self.met_share:8.2%}"
            f"   {self.extra:>4} of {self.detections:>6} extra {self.extra_share:8.2%}"
        )


@dataclass(frozen=True)
class Objects:
    """Some objects of one picture: classes int64 [n], scores float32 [n], boxes float32 [n, 4]."""

    classes: NDArray[np.int64]
    scores: Floats
    boxes: Floats


def compare(expected: Objects, found: Objects, threshold: float, what: str) -> Tally:
    """Greedy over pairs by falling IoU: same class, IoU at least 0.85, score within 0.05.

    Whatever lies within 0.05 of the threshold may meet a counterpart, and is not counted itself.
    """
    overlaps = iou_matrix(expected.boxes, found.boxes)
    alike = expected.classes[:, None] == found.classes[None, :]
    near = np.abs(expected.scores[:, None] - found.scores[None, :]) <= SCORE
    overlaps = np.where(alike & near & (overlaps >= IOU), overlaps, 0)
    met, used = set(), set()
    for pair in np.argsort(-overlaps, axis=None, kind="stable"):
        a, b = (int(index) for index in np.unravel_index(pair, overlaps.shape))
        if overlaps[a, b] > 0 and a not in met and b not in used:
            met.add(a)
            used.add(b)
    tally = Tally()
    for index, score in enumerate(expected.scores):
        if score >= threshold + SCORE:
            tally.references += 1
            tally.met += index in met
            if index not in met:
                tally.misses.append(
                    f"{what}: missed {expected.classes[index]} {score:.3f} {expected.boxes[index]}"
                )
    for index, score in enumerate(found.scores):
        if score >= threshold + SCORE:
            tally.detections += 1
            tally.extra += index not in used
            if index not in used:
                tally.misses.append(f"{what}: extra {found.classes[index]} {score:.3f} {found.boxes[index]}")
    return tally


def iou_matrix(first: Floats, second: Floats) -> Floats:
    """float32 [n, m] of intersection over union."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0)
