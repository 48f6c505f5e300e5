"""Decoded SSD: boxes [n, k, 4] as relative corners, scores [n, k, 1 + classes], background first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head
from streamd.models.heads import rows
from streamd.models.presets import PRESETS

_FARTHEST = 8.0
"""Relative coordinates of an object lie near 0 to 1; ones that are mostly beyond this are pixels."""


@dataclass(slots=True)
class Ssd:
    """`side` float32 [4]: the input's width, height, width, height. Class 0 comes after background."""

    boxes: int
    scores: int
    classes: int | None
    lines: int | None
    side: Floats
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        raw = rows.picture_row(outputs[self.scores], row, (self.lines, 1 + len(floors)), "scores")
        places = rows.picture_row(outputs[self.boxes], row, (len(raw), 4), "boxes")
        picked, scores, class_ids = rows.best_classes(raw[:, 1:], floors)
        corners = rows.floats(places[picked])
        with np.errstate(all="ignore"):
            if rows.typical(corners[:, 2:]) > _FARTHEST:
                raise ModelError(
                    "the model's boxes are pixels, not relative as head ssd reads them; set another head"
                )
            boxes = corners * self.side
        return rows.candidates(boxes, scores, class_ids)


def recognise(graph: Graph) -> str | None:
    """By names, and rows that are no plain grid: YOLO-NAS and its like give pixels and have no background."""
    found = _outputs(graph)
    if found is None:
        return None
    boxes, scores = (graph.outputs[index] for index in found)
    named = "box" in boxes.name.lower() and any(part in scores.name.lower() for part in ("score", "conf"))
    foreign = "detection" in boxes.name.lower()  # TensorFlow's boxes are y, x, y, x
    if not named or foreign or rows.levels_of(boxes.shape[1], graph.input):
        return None
    return "relative boxes and scores with a background class, by their names"


def build(graph: Graph) -> Head:
    """Raises ModelError when there are no two outputs of boxes and scores."""
    found = _outputs(graph)
    if found is None:
        raise rows.refuse(graph, "ssd", "boxes [n, k, 4] and scores [n, k, 1 + classes]")
    boxes, scores = found
    columns = rows.count(graph.outputs[scores].shape[2])
    side = np.array([graph.input.width, graph.input.height] * 2, np.float32)
    return Ssd(boxes, scores, columns - 1, rows.count(graph.outputs[boxes].shape[1]) or None, side)


def _outputs(graph: Graph) -> tuple[int, int] | None:
    """Which output holds the boxes and which the scores; of two with 4 columns the names tell."""
    if len(graph.outputs) != 2 or any(len(tensor.shape) != 3 for tensor in graph.outputs):
        return None
    order = sorted((0, 1), key=lambda index: "box" not in graph.outputs[index].name.lower())
    for boxes, scores in (order, order[::-1]):
        place, score = graph.outputs[boxes], graph.outputs[scores]
        if place.shape[2] == 4 and rows.count(score.shape[2]) > 1 and place.shape[1] == score.shape[1]:
            return boxes, scores
    return None


FAMILY = Family("ssd", PRESETS["ssd"], recognise, build, shared=True)
