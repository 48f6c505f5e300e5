"""Every family finds the boxes planted in its outputs, in whatever form the model takes pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Placement
from streamd.models.description import Description, describe
from streamd.models.heads import FAMILIES, rows
from streamd.models.selection import rules_for, select
from streamd.models.shapes import feeds
from tests.support import planted
from tests.support.tiny_models import Tiny

ULTRALYTICS = {"author": "Ultralytics", "task": "detect", "names": "{0: 'a', 1: 'b', 2: 'c'}"}
LAYOUTS: dict[str, tuple[str, Callable[[], dict[str, Array]], dict[str, Any]]] = {
    "yolox": ("yolox", planted.yolox, {}),
    "yolov5": ("yolov5", planted.yolov5, {}),
    "yolo": ("yolo", planted.yolo, {}),
    "end2end": ("end2end", planted.end2end, {}),
    "detr": ("detr", planted.detr, {"target_sizes": True}),
    "raw detr": ("detr", planted.raw_detr, {}),
    "joined detr": ("detr", planted.joined_detr, {"metadata": ULTRALYTICS}),
    "nanodet": ("nanodet", planted.nanodet_levels, {}),
    "nanodet in one": ("nanodet", lambda: {"output": planted.nanodet()}, {"input_name": "data"}),
    "nanodet plus": ("nanodet", lambda: {"output": planted.nanodet(plus=True)}, {"input_name": "data"}),
    "ssd": ("ssd", planted.ssd, {}),
    "yunet": ("yunet", planted.yunet, {}),
    "fastestdet": ("fastestdet", planted.fastestdet, {}),
}
FORMS: dict[str, dict[str, Any]] = {
    "any batch": {},
    "one picture": {"batch": 1},
    "open size": {"height": "height", "width": "width"},
    "open size, outputs not declared": {"height": "h", "width": "w", "declare": False},
    "NHWC": {"channels_first": False},
    "uint8 NHWC": {"channels_first": False, "dtype": "uint8"},
    "float16": {"dtype": "float16"},
}


def run(model: Description, pictures: int) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    batch = np.full((pictures, *model.graph.input.picture), 7, model.graph.input.dtype)
    outputs: list[Array] = session.run(None, feeds(model.graph, batch))
    return outputs


def decode(model: Description, outputs: list[Array], floor: float = 0.25, row: int = 0) -> Candidates:
    return model.head.decode(outputs, row, np.full(len(model.labels), floor, np.float32))


def assert_planted(found: Candidates, family: str, tolerance: float = 1e-3) -> None:
    order = np.argsort(-found.scores)
    np.testing.assert_allclose(found.scores[order], planted.SCORES, atol=tolerance)
    np.testing.assert_allclose(found.boxes[order], planted.BOXES, atol=tolerance * 30)
    classes = np.zeros(3) if family == "yunet" else planted.CLASSES
    np.testing.assert_array_equal(found.class_ids[order], classes)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int64


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_planted_boxes_come_back(layout: str, form: str, tmp_path: Path) -> None:
    family, outputs, options = LAYOUTS[layout]
    path = Tiny(outputs(), **options, **FORMS[form]).write(tmp_path)
    model = describe(path, size=(planted.HEIGHT, planted.WIDTH))
    assert model.family == family
    pictures = model.graph.input.batch or 2
    assert_planted(decode(model, run(model, pictures), row=pictures - 1), family)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_outputs(layout: str, tmp_path: Path) -> None:
    family, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path), size=(planted.HEIGHT, planted.WIDTH))
    halves = [part.astype(np.float16) if part.dtype == np.float32 else part for part in run(model, 1)]
    assert_planted(decode(model, halves), family, tolerance=0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exactly_one_family_knows_each_layout(layout: str, tmp_path: Path) -> None:
    family, outputs, options = LAYOUTS[layout]
    graph = describe(Tiny(outputs(), **options).write(tmp_path)).graph
    assert [name for name, row in FAMILIES.items() if row.recognise(graph)] == [family]


def test_the_table_names_its_rows() -> None:
    assert all(name == family.name for name, family in FAMILIES.items())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_floors_are_per_class_and_inclusive(layout: str, tmp_path: Path) -> None:
    family, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    results = run(model, 1)
    found = decode(model, results)
    assert len(decode(model, results, floor=float(found.scores.max())).scores) == 1
    assert len(decode(model, results, floor=np.inf).scores) == 0
    if family != "yunet":
        floors = np.full(len(model.labels), 0.25, np.float32)
        floors[2] = np.inf
        assert set(model.head.decode(results, 0, floors).class_ids) == {0, 1}


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_that_are_no_numbers_give_no_objects(layout: str, rubbish: float, tmp_path: Path) -> None:
    _, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    results = [
        np.full(part.shape, rubbish).astype(part.dtype) if part.dtype != np.int64 else part
        for part in run(model, 1)
    ]
    found = decode(model, results)
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_outputs_give_detections_or_a_refusal(layout: str, tmp_path: Path) -> None:
    """Numbers of every size, with some that are none: what comes out is sound, and no warning is raised."""
    _, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    random = np.random.default_rng(11)
    rules = rules_for(model.labels, confidence=0.01, region=[[0.2, 0], [1, 0.5], [0.5, 1]])
    sound = 0
    for _ in range(60):
        results = [wild(tensor, random) for tensor in run(model, 1)]
        try:
            found = decode(model, results, floor=0.01)
        except ModelError:
            continue
        kept = select(found, Placement(0.5, 0.25, 3.0, -4.0), 640, 480, rules, model.head.nms)
        assert (kept.boxes >= 0).all()
        assert (kept.boxes <= [640, 480, 640, 480]).all()
        assert (kept.boxes[:, 2:] > kept.boxes[:, :2]).all()
        assert ((kept.scores >= 0.01) & (kept.scores <= 1)).all()
        assert (np.diff(kept.scores) <= 0).all()
        sound += 1
    assert sound > 5


def wild(tensor: Array, random: np.random.Generator) -> Array:
    if tensor.dtype == np.int64:
        return random.integers(-(2**62), 2**62, tensor.shape)
    kind = random.integers(3)
    values = random.random(tensor.shape) if kind == 0 else tensor * 1.0
    if kind == 2:
        values = random.standard_normal(tensor.shape) * 10.0 ** random.integers(-3, 38)
    at = random.integers(0, values.size, values.size // 10)
    values.reshape(-1)[at] = random.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 0])
    with np.errstate(all="ignore"):
        return values.astype(random.choice([np.float32, np.float16]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_bad_row_leaves_the_others(layout: str, tmp_path: Path) -> None:
    family, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    results = run(model, 1)
    spoiled = [part.copy() for part in results]
    for part in spoiled:
        if part.dtype == np.float32:
            part.reshape(-1)[3::17] = np.nan
    kept = decode(model, spoiled)
    whole = decode(model, results)
    assert {tuple(box) for box in kept.boxes} <= {tuple(box) for box in whole.boxes} or family == "nanodet"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_shapes_than_declared_are_refused(layout: str, tmp_path: Path) -> None:
    _, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    results = [part[..., :-1] for part in run(model, 1)]
    with pytest.raises(ModelError, match="declared"):
        decode(model, results)


@pytest.mark.parametrize(
    "layout", ["yolox", "yolov5", "yolo", "end2end", "detr", "nanodet", "ssd", "fastestdet"]
)
def test_scores_that_are_no_probabilities_are_refused(layout: str, tmp_path: Path) -> None:
    _, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    with pytest.raises(ModelError, match="no probabilities"):
        decode(model, [part * 9 for part in run(model, 1)])


def test_a_decoded_grid_is_not_read_as_yolox(tmp_path: Path) -> None:
    model = describe(Tiny(planted.yolov5(lines=126)).write(tmp_path))
    assert model.family == "yolox"  # its shape cannot tell
    with pytest.raises(ModelError, match="head: yolov5"):
        decode(model, run(model, 1))
    assert_planted(decode(describe(model.path, head="yolov5"), run(model, 1)), "yolov5")


@pytest.mark.parametrize("layout", ["ssd", "raw detr", "joined detr"])
def test_pixels_are_not_read_as_relative(layout: str, tmp_path: Path) -> None:
    _, outputs, options = LAYOUTS[layout]
    model = describe(Tiny(outputs(), **options).write(tmp_path))
    results = run(model, 1)
    for tensor, part in zip(model.graph.outputs, results, strict=True):
        if tensor.name in ("boxes", "pred_boxes", "output0"):
            part[..., :4] *= 100
    with pytest.raises(ModelError, match="pixels"):
        decode(model, results)


def test_landmarks_come_back(tmp_path: Path) -> None:
    model = describe(Tiny(planted.yunet()).write(tmp_path))
    found = decode(model, run(model, 1))
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[np.argsort(-found.scores)], planted.KEYPOINTS, atol=1e-3)


def test_class_numbers_beyond_the_labels_are_left_out(tmp_path: Path) -> None:
    outputs = planted.end2end()
    outputs["output0"][0, 5] = 3
    outputs["output0"][1, 5] = -1
    model = describe(Tiny(outputs).write(tmp_path), labels=["a", "b", "c"])
    assert decode(model, run(model, 1)).class_ids.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_likely_is_what_comparing_numbers_says(dtype: type[np.floating[Any]]) -> None:
    """Half precision is compared by its bits; too many may come, too few may not."""
    special = [0.0, -0.0, 1.0, -1.0, 0.25, 0.2499, 0.2501, 6e-8, -6e-8, 65504.0, np.inf, -np.inf, np.nan]
    values = np.array(special, np.float32).astype(dtype)[:, None]
    for floor in (0.0, 6e-8, 0.25, 0.3, 1.0, np.inf):
        found = set(rows.likely(values, floor, axis=1).tolist())
        needed = set(np.flatnonzero(values[:, 0].astype(np.float32) >= np.float32(floor)).tolist())
        surplus = [float(values[index, 0]) for index in found - needed]
        assert needed - found <= {1}  # minus nought is as good as nothing
        assert all(np.isnan(one) or abs(one - floor) <= 1e-3 or np.isinf(floor) for one in surplus)
