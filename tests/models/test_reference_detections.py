"""Real models over real pictures say what an independent decoding of the same models says.

Run with `-s` to see the table.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from streamd.models.contract import Array, Detections, Placement
from streamd.models.description import Description, describe
from streamd.models.selection import rules_for, select
from tests.support import plain_pixels, reference_data
from tests.support.matching import IOU, Objects, Tally, compare, iou_matrix
from tests.support.reference_data import Reference, needs_data

# Nothing in these files tells how pictures must be prepared: they are YOLOX with another family's outputs.
INPUT_TO_SET = {"yolox_nano_416_v8head": "yolox", "yolox_nano_416_e2e": "yolox"}
WEAK = "fastestdet_352"  # a tiny model, sensitive to the resizer: outside the pool
TIMELINE_PARTS = 4


def prepared(picture: NDArray[np.uint8], model: Description) -> tuple[Array, Placement]:
    """How a picture becomes input. The one place to change for another pixel path."""
    return plain_pixels.prepare(picture, model.contract, model.graph.input)


def session_for(model: Description) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])


def tally_of(name: str, part: slice = slice(None)) -> Tally:
    """The comparison over (some of) the pictures of one file of expected/."""
    where = reference_data.folder()
    assert where is not None
    expected = reference_data.load(name)
    stem = Path(expected.model).stem
    model = describe(where / expected.model, input=INPUT_TO_SET.get(stem, "auto"))
    session = session_for(model)
    threshold = expected.preprocessing["conf_threshold"]
    rules = rules_for(model.labels, confidence=threshold, iou=expected.preprocessing["nms_iou"] or 1.0)
    by_file: dict[str, dict[int | None, Reference]] = defaultdict(dict)
    for reference in expected.references[part]:
        by_file[reference.file][reference.frame] = reference
    total = Tally()
    for file, references in by_file.items():
        frames = None if None in references else {frame for frame in references if frame is not None}
        for index, picture in plain_pixels.pictures(where / file, frames):
            batch, placement = prepared(picture, model)
            candidates = model.head.decode(session.run(None, model.feeds(batch)), 0, rules.floors)
            height, width = picture.shape[:2]
            found = select(candidates, placement, width, height, rules, model.head.nms)
            objects = Objects(found.class_ids, found.scores, found.boxes)
            total.add(compare(references[index].objects, objects, threshold, f"{file}#{index}"))
            assert_landmarks(references.pop(index), found)
        assert not references, f"{file}: pictures that did not come: {sorted(references, key=str)}"
    return total


def assert_landmarks(reference: Reference, found: Detections) -> None:
    """They lie where the reference has them, within a tenth of the box's width, in boxes that both have."""
    if not reference.keypoints.size:
        return
    assert found.keypoints is not None
    overlaps = iou_matrix(reference.objects.boxes, found.boxes)
    for number, other in zip(*np.nonzero(overlaps >= IOU), strict=True):
        allowed = 0.1 * (found.boxes[other, 2] - found.boxes[other, 0])
        assert np.abs(reference.keypoints[number] - found.keypoints[other]).max() <= allowed


@needs_data
def test_every_model_says_what_its_references_say() -> None:
    pool = Tally()
    tallies = {name: tally_of(name) for name in reference_data.model_expectations()}
    print()
    for name, tally in tallies.items():
        print(tally.row(name))
        if name != WEAK:
            pool.add(tally)
    print(pool.row("pooled, without " + WEAK))
    for name, tally in tallies.items():
        least, most = (0.80, 0.16) if name == WEAK else (0.93, 0.07)
        assert tally.references > 0
        assert tally.met_share >= least, (name, tally.misses)
        assert tally.extra_share <= most, (name, tally.misses)
    assert pool.met_share >= 0.97
    assert pool.extra_share <= 0.035


@needs_data
@pytest.mark.parametrize("part", range(TIMELINE_PARTS))
@pytest.mark.parametrize("name", reference_data.names("timeline.*.json") or ["timeline"])
def test_every_frame_of_the_timelines(name: str, part: int) -> None:
    frames = len(reference_data.load(name).references)
    bounds = [frames * step // TIMELINE_PARTS for step in (part, part + 1)]
    tally = tally_of(name, slice(*bounds))
    print(f"\n{tally.row(f'{name} [{bounds[0]}:{bounds[1]}]')}")
    assert tally.references > 0
    assert tally.met_share >= 0.97, tally.misses
    assert tally.extra_share <= 0.035, tally.misses
