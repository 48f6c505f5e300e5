"""A batch that is read in one go gives what its pictures give one by one, whatever the model says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamd.models.chain import open_session
from streamd.models.contract import Array, BatchHead, Detections, Placement
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.nms import MOST, ranking, ranking_of_each
from streamd.models.selection import Rules, Sight, rules_for
from streamd.models.session import RuntimeOptions
from tests.support import planted
from tests.support.tiny_models import Tiny

LABELS = tuple(f"class {number}" for number in range(8))
RULES = {
    "all": rules_for(LABELS, confidence=0.0),
    "floors": rules_for(LABELS, confidence={"default": 0.3, "class 2": 0.6}, classes=["class 1", "class 2"]),
    "region": rules_for(LABELS, region=[(0.2, 0.2), (0.9, 0.2), (0.5, 0.95)]),
    "size": rules_for(LABELS, min_size=(15, 8)),
    "none": rules_for(LABELS, confidence=1.0),
}
HALF = Placement(0.5, 0.4, 3.0, 7.0, 60, 40)
WHOLE = Placement(1.0, 1.0, 0.0, 0.0, 120, 90)
PICTURES, LINES = 5, 300


@pytest.fixture(params=["end2end", "detr"], scope="module")
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    tiny = Tiny(planted.end2end()) if request.param == "end2end" else Tiny(planted.detr(), target_sizes=True)
    model = describe(tiny.write(tmp_path_factory.mktemp("model")))
    assert isinstance(model.head, BatchHead)
    options = RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), PICTURES, None, 1)
    with open_session(model.path, model.graph, options) as session:
        yield Detector(model, session, PICTURES)


def answers(detector: Detector, seed: int, rubbish: bool) -> list[Array]:
    """What a model might give for `PICTURES` pictures; some have nothing, equal scores are common."""
    chance = np.random.default_rng(seed)
    boxes = chance.uniform(-40, 160, (PICTURES, LINES, 4)).astype(np.float32)
    scores = chance.choice([0.0, 0.2, 0.3, 0.5, 0.7, 0.99], (PICTURES, LINES)).astype(np.float32)
    ids = chance.integers(-1, len(LABELS) + 2, (PICTURES, LINES)).astype(np.float32)
    scores[seed % PICTURES] = 0
    if rubbish:
        boxes[chance.random(boxes.shape) < 0.02] = chance.choice([np.nan, np.inf, -np.inf, 1e30])
        scores[chance.random(scores.shape) < 0.1] = np.nan
        scores[chance.random(scores.shape) < 0.1] = 1.05
    if len(detector.description.graph.outputs) == 1:
        return [np.concatenate([boxes, scores[..., None], ids[..., None]], axis=2)]
    named = {"boxes": boxes, "scores": scores, "labels": ids.astype(np.int64)}
    return [named[output.name] for output in detector.description.graph.outputs]


def same(one: Detections, other: Detections) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in ("boxes", "scores", "class_ids")
    )


@pytest.mark.parametrize("rubbish", [False, True])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_the_same_as_one_by_one(detector: Detector, rules: Rules, rubbish: bool) -> None:
    found = 0
    for seed in range(10):
        outputs = answers(detector, seed, rubbish)
        for placement, width, height in ((WHOLE, 120, 90), (HALF, 120, 100)):
            for count in (1, 2, PICTURES):
                together = detector.read_batch(outputs, [Sight(placement, width, height, rules)] * count)
                singly = [
                    detector.read(outputs, row, placement, (width, height), rules) for row in range(count)
                ]
                assert len(together) == count
                assert all(map(same, together, singly))
                found += sum(map(len, together))
    assert found > 0 or rules is RULES["none"]


def test_pictures_that_are_looked_at_differently_are_read_each_its_own_way(detector: Detector) -> None:
    sights = [
        Sight(WHOLE, 120, 90, RULES["all"]),
        Sight(HALF, 120, 100, RULES["all"]),
        Sight(WHOLE, 120, 90, RULES["floors"]),
        Sight(WHOLE, 60, 90, RULES["all"]),
        Sight(HALF, 120, 100, RULES["size"]),
    ]
    outputs = answers(detector, 3, rubbish=False)
    together = detector.read_batch(outputs, sights)
    for row, (found, sight) in enumerate(zip(together, sights, strict=True)):
        assert same(
            found, detector.read(outputs, row, sight.placement, (sight.width, sight.height), sight.rules)
        )


def test_no_picture_has_more_than_the_most() -> None:
    chance = np.random.default_rng(1)
    counts = [MOST + 300, 0, 5, MOST, MOST + 1]
    pictures = np.repeat(np.arange(len(counts)), counts)
    scores = chance.choice(np.linspace(0, 1, 50, dtype=np.float32), len(pictures))
    order = ranking_of_each(scores, pictures, len(counts))
    first, expected = 0, []
    for count in counts:
        expected.append(first + ranking(scores[first : first + count]))
        first += count
    np.testing.assert_array_equal(order, np.concatenate(expected))
