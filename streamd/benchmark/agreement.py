"""Whether two runs over one clip saw the same: a comparison of speed is hollow where they did not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamd.benchmark.report import SameObjects
from streamd.models.contract import Detections, Floats

_OVERLAP = 0.5
_NEAR = 0.1
"""Scores this close above the threshold may fall below it for another way of scaling a picture."""
_SAME = 0.9
"""Of each side's objects the other has to have so many."""


def compare(ours: Sequence[Detections], usual: Sequence[Detections], threshold: float) -> SameObjects:
    """Frame by frame, each object against those of its class. Runs of different length do not agree."""
    counts = np.zeros(4, int)  # objects of ours and met, of the usual loop and met
    for one, other in zip(ours, usual, strict=False):
        mine, theirs = _met(one, other)
        sure, other_sure = one.scores >= threshold + _NEAR, other.scores >= threshold + _NEAR
        counts += [sure.sum(), (mine & sure).sum(), other_sure.sum(), (theirs & other_sure).sum()]
    ours_met = counts[1] / counts[0] if counts[0] else 0.0
    usual_met = counts[3] / counts[2] if counts[2] else 0.0
    return SameObjects(
        ours=int(counts[0]),
        usual=int(counts[2]),
        ours_met=round(float(ours_met), 4),
        usual_met=round(float(usual_met), 4),
        agree=bool(len(ours) == len(usual) and min(ours_met, usual_met) >= _SAME),
    )


def _met(one: Detections, other: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Which objects of each have a counterpart in the other: one each, best overlap first."""
    mine, theirs = np.zeros(len(one), bool), np.zeros(len(other), bool)
    if not len(one) or not len(other):
        return mine, theirs
    overlaps = _iou(one.boxes, other.boxes)
    overlaps[one.class_ids[:, None] != other.class_ids[None, :]] = 0
    for place in np.argsort(-overlaps, axis=None):
        row, column = np.unravel_index(place, overlaps.shape)
        if overlaps[row, column] < _OVERLAP:
            break
        if not mine[row] and not theirs[column]:
            mine[row] = theirs[column] = True
    return mine, theirs


def _iou(one: Floats, other: Floats) -> Floats:
    """Intersection over union of corners: [n, m]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    union: Floats = np.maximum(areas[0][:, None] + areas[1][None, :] - common, np.float32(1e-6))
    ratio: Floats = common / union
    return ratio
