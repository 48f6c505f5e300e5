"""From a model's outputs to the objects of one picture, for every family of heads at the sizes of service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamd.models.contract import Detections, Placement
from streamd.models.description import describe
from streamd.models.heads import FAMILIES
from streamd.models.selection import rules_for, select
from tests.support.full_outputs import COPIES, LAYOUTS, OBJECTS, SIDE
from tests.support.tiny_models import Tiny


def test_every_family_is_measured() -> None:
    assert set(LAYOUTS) == set(FAMILIES)


@pytest.mark.benchmark(group="from outputs to objects")
@pytest.mark.parametrize("family", LAYOUTS)
def test_head(family: str, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    layout = LAYOUTS[family]
    outputs = layout.outputs()
    description = describe(Tiny(outputs, height=SIDE, width=SIDE, **layout.model).write(tmp_path))
    assert description.family == family
    head, rules = description.head, rules_for(description.labels)
    tensors = [outputs[tensor.name][None] for tensor in description.graph.outputs]
    if family == "detr":
        tensors = [
            part * SIDE if tensor.name == "boxes" else part
            for tensor, part in zip(description.graph.outputs, tensors, strict=True)
        ]
    placed = Placement(1 / 3, 1 / 3, 0, 140, 640, 360)

    def read() -> Detections:
        return select(head.decode(tensors, 0, rules.floors), placed, 1920, 1080, rules, head.nms)

    found = benchmark(read)
    candidates = head.decode(tensors, 0, rules.floors)
    benchmark.extra_info["candidates"] = len(candidates.scores)
    benchmark.extra_info["objects"] = len(found)
    assert len(candidates.scores) >= (OBJECTS * COPIES if head.nms else OBJECTS)
    assert 1 <= len(found) <= len(candidates.scores)
    assert np.isfinite(found.boxes).all()
