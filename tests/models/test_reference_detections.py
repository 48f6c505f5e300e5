"""Real models over real pictures say what an independent decoding of the same models says.

The pictures take the product's own way: opened by `streamd.sources`, prepared by the letterbox, run by the
session, read by the head, selected by the rules. Run with `-s` to see the table.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from streamd.core.picture import Picture
from streamd.models.chain import open_session
from streamd.models.contract import Detections, Placement
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.preprocess import Letterbox
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.sources import SourceRequest, open_source
from tests.support import reference_data
from tests.support.matching import IOU, Objects, Tally, compare, iou_matrix
from tests.support.reference_data import Reference, needs_data

# Nothing in these files tells how pictures must be prepared: they are YOLOX with another family's outputs.
INPUT_TO_SET = {"yolox_nano_416_v8head": "yolox", "yolox_nano_416_e2e": "yolox"}
WEAK = "fastestdet_352"  # a tiny model, sensitive to the resizer: outside the pool
OPTIONS = RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), 1, None)


def pictures_of(path: Path, wanted: set[int | None]) -> Iterator[tuple[int | None, Picture]]:
    """The wanted pictures of a clip with their index, or the only one of an image file with None."""
    with open_source(SourceRequest(str(path)), threading.Event()) as source:
        for index, picture in enumerate(source.pictures()):
            if None in wanted:
                yield None, picture
            elif index in wanted:
                yield index, picture
            if index == max((number for number in wanted if number is not None), default=-1):
                return


class Comparison:
    """One file of expected/ and how far streamd agrees with it so far."""

    def __init__(self, name: str, root: Path) -> None:
        expected = reference_data.load(name)
        stem = Path(expected.model).stem
        self.model = describe(root / expected.model, input=INPUT_TO_SET.get(stem, "auto"))
        self.tally = Tally()
        self.wanted: dict[str, dict[int | None, Reference]] = defaultdict(dict)
        for reference in expected.references:
            self.wanted[reference.file][reference.frame] = reference
        self._threshold = expected.preprocessing["conf_threshold"]
        iou = expected.preprocessing["nms_iou"] or 1.0
        self._rules = rules_for(self.model.labels, confidence=self._threshold, iou=iou)
        shape = self.model.graph.input
        self._letterbox = Letterbox(self.model.contract, shape)
        self._slot = np.zeros(shape.picture, shape.dtype)
        self._placement: Placement | None = None

    def look(self, detector: Detector, file: str, index: int | None, picture: Picture) -> None:
        """Run one wanted picture and compare."""
        self._placement = self._letterbox.write(picture, self._slot, self._placement)
        size = (picture.width, picture.height)
        found = detector.read(detector.run([self._slot]), 0, self._placement, size, self._rules)
        reference = self.wanted[file].pop(index)
        objects = Objects(found.class_ids, found.scores, found.boxes)
        self.tally.add(compare(reference.objects, objects, self._threshold, f"{file}#{index}"))
        assert_landmarks(reference, found)


def tallies_of(names: Sequence[str]) -> dict[str, Tally]:
    """The comparison over the pictures of some files of expected/; each clip is decoded once for all of them."""
    root = reference_data.folder()
    assert root is not None
    comparisons = [Comparison(name, root) for name in names]
    with ExitStack() as stack:
        detectors = [
            Detector(
                one.model, stack.enter_context(open_session(one.model.path, one.model.graph, OPTIONS)), 1
            )
            for one in comparisons
        ]
        for file in sorted({file for one in comparisons for file in one.wanted}):
            wanted = {index for one in comparisons for index in one.wanted.get(file, ())}
            for index, picture in pictures_of(root / file, wanted):
                for one, detector in zip(comparisons, detectors, strict=True):
                    if index in one.wanted.get(file, ()):
                        one.look(detector, file, index, picture)
    for one in comparisons:
        assert not any(one.wanted.values()), "pictures that did not come"
    return {name: one.tally for name, one in zip(names, comparisons, strict=True)}


def assert_landmarks(reference: Reference, found: Detections) -> None:
    """They lie where the reference has them, within a tenth of the box's width, in boxes that both have."""
    if not reference.keypoints.size:
        return
    assert found.keypoints is not None
    overlaps = iou_matrix(reference.objects.boxes, found.boxes)
    for number, other in zip(*np.nonzero(overlaps >= IOU), strict=True):
        allowed = 0.1 * (found.boxes[other, 2] - found.boxes[other, 0])
        assert np.abs(reference.keypoints[number] - found.keypoints[other]).max() <= allowed


@pytest.mark.slow
@needs_data
def test_every_model_says_what_its_references_say() -> None:
    pool = Tally()
    tallies = tallies_of(reference_data.model_expectations())
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


@pytest.mark.long
@needs_data
@pytest.mark.parametrize("name", reference_data.names("timeline.*.json") or ["timeline"])
def test_every_frame_of_the_timelines(name: str) -> None:
    tally = tallies_of([name])[name]
    print(f"\n{tally.row(name)}")
    assert tally.references > 0
    assert tally.met_share >= 0.97, tally.misses
    assert tally.extra_share <= 0.035, tally.misses
