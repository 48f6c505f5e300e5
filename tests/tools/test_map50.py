"""The metric, on cases small enough to work out by hand."""

import numpy as np
import pytest

from tests.support.map50 import Detections, Objects, area_under, map50

BOX = (10.0, 10.0, 30.0, 50.0)
FAR = (200.0, 200.0, 240.0, 260.0)


def found(*rows: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], float).reshape(-1, 4),
        np.array([score for _, score, _ in rows], float),
        np.array([label for _, _, label in rows], int),
    )


def present(*rows: tuple[tuple[float, float, float, float], int, bool]) -> Objects:
    return Objects(
        np.array([box for box, _, _ in rows], float).reshape(-1, 4),
        np.array([label for _, label, _ in rows], int),
        np.array([ignore for _, _, ignore in rows], bool),
    )


def test_every_object_found_is_one() -> None:
    result = map50([found((BOX, 0.9, 0), (FAR, 0.4, 1))], [present((BOX, 0, False), (FAR, 1, False))])
    assert result.map50 == 1.0
    assert result.ap == {0: 1.0, 1: 1.0}
    assert result.objects == {0: 1, 1: 1}


def test_nothing_found_is_zero() -> None:
    assert map50([found()], [present((BOX, 0, False))]).map50 == 0.0


def test_a_missed_class_pulls_the_mean_down_but_an_absent_one_does_not() -> None:
    truth = [present((BOX, 0, False), (FAR, 1, False))]
    assert map50([found((BOX, 0.9, 0))], truth).map50 == 0.5
    assert map50([found((BOX, 0.9, 0))], [present((BOX, 0, False))]).map50 == 1.0


def test_the_wrong_class_does_not_count() -> None:
    assert map50([found((BOX, 0.9, 1))], [present((BOX, 0, False))]).map50 == 0.0


def test_a_false_find_with_a_higher_score_halves_precision() -> None:
    assert map50([found((FAR, 0.9, 0), (BOX, 0.8, 0))], [present((BOX, 0, False))]).map50 == 0.5


def test_a_false_find_with_a_lower_score_costs_nothing() -> None:
    assert map50([found((FAR, 0.3, 0), (BOX, 0.8, 0))], [present((BOX, 0, False))]).map50 == 1.0


def test_finding_an_object_twice_is_false() -> None:
    truth = [present((BOX, 0, False)), present((FAR, 0, False))]
    twice = [found((BOX, 0.9, 0), (BOX, 0.8, 0)), found((FAR, 0.7, 0))]
    assert map50(twice, truth).map50 == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_overlap_must_reach_half() -> None:
    just = (10.0, 10.0, 30.0, 30.0)  # half of BOX: IoU exactly 0.5
    less = (10.0, 10.0, 30.0, 29.0)
    truth = [present((BOX, 0, False))]
    assert map50([found((just, 0.9, 0))], truth).map50 == 1.0
    assert map50([found((less, 0.9, 0))], truth).map50 == 0.0


def test_ignored_objects_are_neither_missed_nor_false() -> None:
    truth = [present((BOX, 0, False), (FAR, 0, True))]
    assert map50([found((BOX, 0.5, 0))], truth).map50 == 1.0
    assert map50([found((FAR, 0.9, 0), (BOX, 0.5, 0))], truth).map50 == 1.0
    part = (200.0, 200.0, 240.0, 215.0)  # the part of it that shows
    assert map50([found((part, 0.9, 0), (BOX, 0.5, 0))], truth).map50 == 1.0


def test_a_counted_object_is_preferred_to_an_ignored_one() -> None:
    truth = [present((BOX, 0, True), (BOX, 0, False))]
    assert map50([found((BOX, 0.9, 0))], truth).map50 == 1.0


def test_boxes_of_another_frame_do_not_match() -> None:
    assert map50([found((BOX, 0.9, 0)), found()], [present(), present((BOX, 0, False))]).map50 == 0.0


def test_area_under_takes_the_best_precision_to_the_right() -> None:
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1.0, 0.5, 0.4, 0.6])
    assert area_under(recall, precision) == pytest.approx(0.25 * 1.0 + 0.25 * 0.6 + 0.25 * 0.6)


def test_frames_must_pair_up() -> None:
    with pytest.raises(ValueError, match="1 frames of detections, 2 frames of truth"):
        map50([found()], [present(), present()])
