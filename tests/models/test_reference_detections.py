"""Real models over real pictures say what an independent decoding of the same models says.

The pictures take the product's own way: opened by `streamd.sources`, prepared by the letterbox, run by the
session, read by the head, selected by the rules. Run with `-s` to see the table.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamd.core.picture import Picture
from streamd.models.contract import Detections
from streamd.models.description import Description, describe
from streamd.models.detector import Detector
from streamd.models.preprocess import Letterbox
from streamd.models.selection import Rules, rules_for
from streamd.models.session import RuntimeOptions, open_session
from streamd.sources import SourceRequest, open_source
from tests.support import reference_data
from tests.support.matching import IOU, Objects, Tally, compare, iou_matrix
from tests.support.reference_data import Reference, needs_data

# Nothing in these files tells how pictures must be prepared: they are YOLOX with another family's outputs.
INPUT_TO_SET = {"yolox_nano_416_v8head": "yolox", "yolox_nano_416_e2e": "yolox"}
WEAK = "fastestdet_352"  # a tiny model, sensitive to the resizer: outside the pool
OPTIONS = RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), 1, 1)


def pictures_of(path: Path, wanted: set[int] | None) -> Iterator[tuple[int | None, Picture]]:
    """The wanted pictures of a clip with their index, or the only one of an image file with None."""
    with open_source(SourceRequest(str(path)), threading.Event()) as source:
        for index, picture in enumerate(source.pictures()):
            if wanted is None:
                yield None, picture
            elif index in wanted:
                yield index, picture
                if index == max(wanted):
                    return


def detections_of(model: Description, path: Path, wanted: set[int] | None, rules: Rules) -> Iterator[
    tuple[int | None, Detections]
]:  # fmt: skip
    """What the model sees in each wanted picture."""
    letterbox = Letterbox(model.contract, model.graph.input)
    slot = np.zeros(model.graph.input.picture, model.graph.input.dtype)
    placement = None
    with open_session(model.path, model.graph, OPTIONS) as session:
        detector = Detector(model, session, 1)
        for index, picture in pictures_of(path, wanted):
            placement = letterbox.write(picture, slot, placement)
            size = (picture.width, picture.height)
            yield index, detector.read(detector.run([slot]), 0, placement, size, rules)


def tally_of(name: str) -> Tally:
    """The comparison over the pictures of one file of expected/."""
    where = reference_data.folder()
    assert where is not None
    expected = reference_data.load(name)
    stem = Path(expected.model).stem
    model = describe(where / expected.model, input=INPUT_TO_SET.get(stem, "auto"))
    threshold = expected.preprocessing["conf_threshold"]
    rules = rules_for(model.labels, confidence=threshold, iou=expected.preprocessing["nms_iou"] or 1.0)
    by_file: dict[str, dict[int | None, Reference]] = defaultdict(dict)
    for reference in expected.references:
        by_file[reference.file][reference.frame] = reference
    total = Tally()
    for file, references in by_file.items():
        frames = None if None in references else {frame for frame in references if frame is not None}
        for index, found in detections_of(model, where / file, frames, rules):
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
@pytest.mark.parametrize("name", reference_data.names("timeline.*.json") or ["timeline"])
def test_every_frame_of_the_timelines(name: str) -> None:
    tally = tally_of(name)
    print(f"\n{tally.row(name)}")
    assert tally.references > 0
    assert tally.met_share >= 0.97, tally.misses
    assert tally.extra_share <= 0.035, tally.misses
