"""Suppression against the plainest way to write it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.models import nms
from streamd.models.contract import Floats

# Small whole numbers: boxes meet, touch, repeat and are empty, and equal scores are common.
BOX = st.tuples(*[st.integers(0, 12)] * 4)
ROWS = st.lists(st.tuples(BOX, st.sampled_from([0.3, 0.5, 0.5, 0.9]), st.integers(0, 2)), max_size=25)


def iou(a: Floats, b: Floats) -> float:
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    areas = [max(0.0, float(box[2] - box[0])) * max(0.0, float(box[3] - box[1])) for box in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def plainly(boxes: Floats, scores: Floats, class_ids: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        if all(
            class_ids[index] != class_ids[other] or iou(boxes[index], boxes[other]) <= threshold
            for other in kept
        ):
            kept.append(index)
    return kept


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_like_the_plain_way(rows: list[tuple[tuple[int, ...], float, int]], threshold: float) -> None:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    class_ids = np.array([row[2] for row in rows], np.int64)
    # A ratio that equals the threshold may round to either side; any other differs clearly from it.
    found = nms.suppress(boxes, scores, class_ids, threshold + 1e-6)
    assert found.tolist() == plainly(boxes, scores, class_ids, threshold + 1e-6)


def test_no_more_than_the_best_take_part() -> None:
    count = nms.MOST + 500
    boxes = np.tile(np.arange(count, dtype=np.float32)[:, None] * 10, (1, 4)) + np.array(
        [0, 0, 5, 5], np.float32
    )
    scores = np.linspace(0.1, 0.9, count, dtype=np.float32)
    kept = nms.suppress(boxes, scores, np.zeros(count, np.int64), 0.5)
    assert len(kept) == nms.MOST
    assert kept[0] == count - 1


def test_nothing_gives_nothing() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert len(nms.suppress(empty, empty[:, 0], np.zeros(0, np.int64), 0.5)) == 0
