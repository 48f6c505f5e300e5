"""Greedy non-maximum suppression, class by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamd.models.contract import Floats

MOST = 1000
"""Only so many best candidates of a picture take part, and so are kept at the most."""


def suppress(boxes: Floats, scores: Floats, class_ids: NDArray[np.int64], iou: float) -> NDArray[np.intp]:
    """Indices of the boxes that stay, best score first; equal scores keep their order.

    A box goes when it overlaps a better one of its class, that stays, by more than `iou` (intersection over
    union). boxes float32 [n, 4] x1, y1, x2, y2; scores float32 [n]; class_ids int64 [n].
    """
    order = ranking(scores)
    classes = class_ids[order]
    stays = np.ones(len(order), np.bool_)
    for class_id in np.unique(classes):
        places = np.flatnonzero(classes == class_id)
        if len(places) > 1:
            stays[places] = _greedy(boxes[order[places]], iou)
    return order[stays]


def ranking(scores: Floats) -> NDArray[np.intp]:
    """Indices of at most `MOST` best scores, best first; equal scores keep their order."""
    return (-scores).argsort(kind="stable")[:MOST]


def ranking_of_each(scores: Floats, pictures: NDArray[np.int64], count: int) -> NDArray[np.intp]:
    """As `ranking` of each picture by itself, one picture after the other.

    pictures int64 [n], ascending: which of the `count` pictures each score is of.
    """
    order = np.lexsort((-scores, pictures))
    many = np.bincount(pictures, minlength=count)
    if many.max(initial=0) <= MOST:
        return order
    # In this order each picture's own begin where they began before.
    places = np.arange(len(order)) - (many.cumsum() - many)[pictures]
    return order[places < MOST]


def _greedy(boxes: Floats, iou: float) -> NDArray[np.bool_]:
    """Which boxes of one class stay; they are sorted, best first."""
    overlaps = np.triu(_overlapping(boxes, iou), k=1)
    stays = np.ones(len(boxes), np.bool_)
    for best in np.flatnonzero(overlaps.any(axis=1)):
        if stays[best]:
            stays &= ~overlaps[best]
    return stays


def _overlapping(boxes: Floats, iou: float) -> NDArray[np.bool_]:
    """Which pairs overlap by more than `iou`: bool [n, n]. All pairs at once: numpy's price is per call."""
    x1, y1, x2, y2 = boxes.T
    width = np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1)
    height = np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1)
    common = np.maximum(width, 0) * np.maximum(height, 0)
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    # Not a division: two empty boxes have a union of 0.
    more: NDArray[np.bool_] = common > iou * (np.add.outer(areas, areas) - common)
    return more
