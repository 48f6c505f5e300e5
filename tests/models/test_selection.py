"""From candidates to detections: rules of a stream, places, clipping, filters, order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.core.errors import ConfigError
from streamd.models.contract import Candidates, Placement
from streamd.models.selection import Rules, inside, rules_for, select

LABELS = ("person", "bicycle", "car")
SAME = Placement(1.0, 1.0, 0.0, 0.0)
ALL = rules_for(LABELS, confidence=0.0)


def candidates(*rows: tuple[float, float, float, float, float, int]) -> Candidates:
    """Of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Candidates(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def boxes(
    found: Candidates, rules: Rules = ALL, placement: Placement = SAME, nms: bool = True
) -> list[list[float]]:
    result: list[list[float]] = select(found, placement, 100, 50, rules, nms).boxes.tolist()
    return result


def test_boxes_go_back_to_the_source() -> None:
    placement = Placement(2.0, 4.0, 10.0, 20.0)
    assert boxes(candidates((30, 40, 50, 60, 0.9, 0)), placement=placement) == [[10, 5, 20, 10]]


def test_boxes_are_clipped_and_empty_ones_left_out() -> None:
    found = candidates(
        (-10, -10, 20, 20, 0.9, 0),
        (90, 40, 300, 300, 0.8, 0),
        (-20, 0, -5, 20, 0.7, 0),
        (30, 30, 30, 40, 0.6, 0),
        (60, 40, 50, 45, 0.5, 0),
    )
    assert boxes(found) == [[0, 0, 20, 20], [90, 40, 100, 50]]


def test_suppression_is_per_class_and_only_where_asked() -> None:
    found = candidates((0, 0, 20, 20, 0.8, 0), (1, 0, 20, 20, 0.9, 0), (0, 0, 20, 20, 0.7, 1))
    assert len(boxes(found)) == 2
    assert len(boxes(found, nms=False)) == 3
    assert len(boxes(found, rules_for(LABELS, iou=1.0))) == 3


def test_order_is_by_score_and_stable() -> None:
    rows = [
        (10.0 * n, 0.0, 10.0 * n + 5, 5.0, score, n % 2) for n, score in enumerate([0.5, 0.9, 0.5, 0.7, 0.5])
    ]
    for nms in (True, False):
        result = select(candidates(*rows), SAME, 100, 50, ALL, nms)
        assert result.boxes[:, 0].tolist() == [10, 30, 0, 20, 40]
        assert result.class_ids.tolist() == [1, 1, 0, 0, 0]


def test_keypoints_go_along() -> None:
    found = candidates((10, 10, 20, 20, 0.5, 0), (40, 10, 50, 20, 0.9, 0))
    found.keypoints = np.array([[[12, 14]], [[44, 24]]], np.float32)
    result = select(found, Placement(2.0, 2.0, 4.0, 4.0), 100, 50, ALL, True)
    assert result.keypoints is not None
    assert result.keypoints.tolist() == [[[20, 10]], [[4, 5]]]


def test_nothing_gives_nothing() -> None:
    rules = rules_for(LABELS, region=[[0, 0], [1, 0], [1, 1]], min_size=[3, 3])
    result = select(candidates(), SAME, 100, 50, rules, True)
    assert len(result) == 0
    assert result.boxes.shape == (0, 4)


def test_small_objects_are_left_out() -> None:
    found = candidates((0, 0, 10, 20, 0.9, 0), (20, 0, 29.9, 20, 0.8, 0), (40, 0, 50, 19, 0.7, 0))
    assert boxes(found, rules_for(LABELS, min_size=[10, 20])) == [[0, 0, 10, 20]]


def test_the_bottom_centre_counts_for_the_region() -> None:
    left_half = rules_for(LABELS, region=[[0, 0], [0.5, 0], [0.5, 1], [0, 1]])
    found = candidates((0, 0, 98, 40, 0.9, 0), (40, 0, 70, 40, 0.8, 1))
    assert boxes(found, left_half) == [[0, 0, 98, 40]]


def test_objects_cut_by_the_picture_lie_in_a_region_up_to_its_edge() -> None:
    whole = rules_for(LABELS, region=[[0, 0], [1, 0], [1, 1], [0, 1]])
    found = candidates((-20, 0, 7, 90, 0.9, 0), (33, 20, 61, 90, 0.8, 0), (90, 0, 300, 300, 0.7, 0))
    assert len(boxes(found, whole)) == 3


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_region_with_a_bay(x: float, y: float) -> None:
    """An L: the upper right quarter is missing."""
    region = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))
    point = inside(region, np.array([x], np.float32), np.array([y], np.float32))[0]
    assert point == (not (x > 0.5 + 1e-5 and y < 0.5 - 1e-5)) or abs(x - 0.5) < 1e-4 or abs(y - 0.5) < 1e-4


def test_a_region_may_repeat_a_corner() -> None:
    region = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    assert inside(region, np.array([0.5], np.float32), np.array([0.5], np.float32)).all()


def test_floors() -> None:
    assert rules_for(LABELS).floors.tolist() == [0.25] * 3
    assert rules_for(LABELS, confidence=0.5).floors.tolist() == [0.5] * 3
    assert rules_for(LABELS, confidence={"car": 0.5}).floors.tolist() == [0.25, 0.25, 0.5]
    assert rules_for(LABELS, confidence={"car": 0.5, "default": 0.75}).floors.tolist() == [0.75, 0.75, 0.5]
    assert rules_for(LABELS, classes=["car"]).floors.tolist() == [np.inf, np.inf, 0.25]
    assert rules_for(("a", "b", "a"), classes=["a"]).floors.tolist() == [0.25, np.inf, 0.25]
    assert rules_for(LABELS).floors.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"classes": ["persn"]}, "classes: the model has no class 'persn', did you mean 'person'"),
        ({"classes": ["Car"]}, "did you mean 'car'"),
        ({"classes": ["zebra crossing"]}, "it has person, bicycle, car"),
        ({"confidence": {"cart": 0.5}}, "confidence: the model has no class 'cart', did you mean 'car'"),
        ({"confidence": 1.5}, "confidence: a number from 0 to 1"),
        ({"confidence": float("nan")}, "confidence"),
        ({"confidence": {"car": -1}}, "confidence: car"),
        ({"confidence": {"default": 7}}, "confidence: default"),
        ({"iou": -0.1}, "iou: a number from 0 to 1"),
        ({"region": [[0, 0], [1, 1]]}, "at least 3 corners"),
        ({"region": [[0, 0], [1, 1], [1, 2, 3]]}, "corners"),
        ({"region": [[0, 0], [640, 0], [640, 480]]}, "look like pixels"),
        ({"min_size": [10]}, "min_size"),
        ({"min_size": [-1, 5]}, "min_size"),
        ({"min_size": [float("nan"), 5]}, "min_size"),
    ],
)
def test_rules_that_cannot_be(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        rules_for(LABELS, **options)
