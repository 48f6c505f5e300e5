"""YOLOv8, v9, v11 and v12: one output [n, 4 + classes, anchors], boxes as centre and size in input pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head
from streamd.models.heads import rows
from streamd.models.metadata import class_names, is_ultralytics
from streamd.models.presets import PRESETS


@dataclass(slots=True)
class Yolo:
    """Reads columns: a box and its class scores lie below each other."""

    output: str
    classes: int | None
    anchors: int | None
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        raw = rows.picture_row(outputs[0], row, (4 + len(floors), self.anchors), self.output)
        likely = rows.likely(raw[4:], floors.min(), axis=0)
        picked, scores, class_ids = rows.best_classes(raw[4:, likely].T, floors)
        place = rows.floats(raw[:4, likely[picked]].T)
        with np.errstate(all="ignore"):
            boxes = rows.corners(place[:, :2], place[:, 2:])
        return rows.candidates(boxes, scores, class_ids)


def recognise(graph: Graph) -> str | None:
    """By its columns, one per cell, or by Ultralytics' metadata where the size leaves them open."""
    output = rows.only(graph.outputs, 3)
    if output is None or rows.count(output.shape[1]) < 5:
        return None
    channels = rows.count(output.shape[1])
    names = class_names(graph.metadata)
    if is_ultralytics(graph.metadata) and names is not None and channels == 4 + len(names):
        return f"Ultralytics' metadata, and {channels} channels for {len(names)} classes"
    strides = rows.levels_of(output.shape[2], graph.input)
    if strides is None or rows.levels_of(channels, graph.input):
        return None  # both dimensions could be the grid
    return (
        f"one output of {output.shape[2]} columns, one per cell of the strides {', '.join(map(str, strides))}"
    )


def build(graph: Graph) -> Head:
    """Raises ModelError when there is no single output [n, 4 + classes, anchors]."""
    output = rows.only(graph.outputs, 3)
    channels = rows.count(output.shape[1]) if output else 0
    anchors = rows.count(output.shape[2]) if output else 0
    # Some 300 lines of 6 columns, or thousands of 85, are other heads' layouts and not boxes side by side.
    sideways = anchors and anchors < channels and rows.levels_of(anchors, graph.input) is None
    if output is None or channels < 5 or sideways:
        raise rows.refuse(graph, "yolo", "one output [n, 4 + classes, anchors]")
    return Yolo(output.name, channels - 4, anchors or None)


FAMILY = Family("yolo", PRESETS["ultralytics"], recognise, build)
