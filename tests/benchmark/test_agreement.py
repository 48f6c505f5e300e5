"""A comparison is hollow when the two sides see different things, or nothing."""

from __future__ import annotations

import numpy as np

from streamd.benchmark.agreement import compare
from streamd.models.contract import Detections

BOXES = np.array([[0, 0, 100, 100], [200, 0, 260, 40], [0, 300, 50, 350]], np.float32)


def seen(
    boxes: np.ndarray = BOXES, scores: tuple[float, ...] = (0.9, 0.8, 0.7), first: int = 0
) -> Detections:
    count = len(boxes)
    return Detections(boxes, np.array(scores[:count], np.float32), np.arange(count) + first)


def test_boxes_that_differ_by_little_are_the_same() -> None:
    found = compare([seen(), seen()], [seen(BOXES + 2), seen(BOXES)], 0.25)
    assert (found.ours, found.usual, found.ours_met, found.usual_met) == (6, 6, 1, 1)
    assert found.agree


def test_other_classes_other_places_and_other_lengths_are_not() -> None:
    assert compare([seen()], [seen(first=1)], 0.25).ours_met == 0
    assert not compare([seen()], [seen(BOXES + 90)], 0.25).agree
    assert not compare([seen()], [seen(), seen()], 0.25).agree


def test_one_side_that_sees_less_is_not_enough() -> None:
    found = compare([seen()], [seen(BOXES[:2])], 0.25)
    assert found.usual_met == 1
    assert found.ours_met == 0.6667
    assert not found.agree


def test_what_is_near_the_threshold_does_not_count() -> None:
    weak = (0.9, 0.8, 0.3)
    found = compare([seen(scores=weak)], [seen(BOXES[:2])], 0.25)
    assert (found.ours, found.ours_met, found.agree) == (2, 1, True)
    # It may be what a sure one of the other side is met by.
    assert compare([seen(scores=weak)], [seen()], 0.25).usual_met == 1


def test_an_object_is_met_once() -> None:
    double = np.concatenate([BOXES[:1], BOXES[:1] + 1])
    one = Detections(double, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64))
    assert compare([one], [seen(BOXES[:1])], 0.25).ours_met == 0.5


def test_nothing_seen_is_no_agreement() -> None:
    nothing = seen(BOXES[:0])
    assert not compare([nothing], [nothing], 0.25).agree
