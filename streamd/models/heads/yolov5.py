"""YOLOv5 and YOLOv7: [n, rows, 5 + classes], decoded to input pixels: centre, size, objectness, classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head
from streamd.models.heads import rows
from streamd.models.metadata import class_names, is_ultralytics
from streamd.models.presets import PRESETS

_ANCHORS = 3


@dataclass(slots=True)
class Yolov5:
    """Reads output number `index`, [rows, 5 + classes] a picture."""

    index: int
    output: str
    classes: int | None
    lines: int | None
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        raw = rows.picture_row(outputs[self.index], row, (self.lines, 5 + len(floors)), self.output)
        picked, scores, class_ids = rows.best_with_objectness(raw, floors)
        place = rows.floats(raw[picked, :4])
        with np.errstate(all="ignore"):
            boxes = rows.corners(place[:, :2], place[:, 2:])
        return rows.candidates(boxes, scores, class_ids)


def recognise(graph: Graph) -> str | None:
    """By its rows: three anchors per cell. Older exports add the raw maps, [n, 3, h, w, 5 + classes]."""
    index = _index(graph)
    if index is None:
        return None
    _, total, columns = graph.outputs[index].shape
    names = class_names(graph.metadata)
    if (
        is_ultralytics(graph.metadata)
        and names is not None
        and columns == 5 + len(names)
        and not rows.count(total)
    ):
        return f"YOLOv5's metadata, and {columns} columns for {len(names)} classes"
    strides = rows.levels_of(total, graph.input, _ANCHORS)
    return f"{total} rows, three per cell of the strides {', '.join(map(str, strides))}" if strides else None


def build(graph: Graph) -> Head:
    """Takes any number of rows: YOLOv6 and a YOLOX exported with its decoding have one per cell.

    Raises ModelError when there is no output [n, rows, 5 + classes].
    """
    index = _index(graph)
    if index is None:
        raise rows.refuse(graph, "yolov5", "an output [n, rows, 5 + classes]")
    output = graph.outputs[index]
    return Yolov5(index, output.name, rows.count(output.shape[2]) - 5, rows.count(output.shape[1]) or None)


def _index(graph: Graph) -> int | None:
    """The one output of 3 dimensions; others must be raw maps of 5 with as many columns."""
    flat = [index for index, tensor in enumerate(graph.outputs) if len(tensor.shape) == 3]
    if len(flat) != 1:
        return None
    columns = rows.count(graph.outputs[flat[0]].shape[2])
    others = (tensor for index, tensor in enumerate(graph.outputs) if index != flat[0])
    if columns < 6 or any(
        len(tensor.shape) != 5 or tensor.shape[4] not in (columns, None) for tensor in others
    ):
        return None
    lines = rows.count(graph.outputs[flat[0]].shape[1])
    return flat[0] if lines == 0 or lines > columns or rows.levels_of(lines, graph.input, _ANCHORS) else None


FAMILY = Family("yolov5", PRESETS["ultralytics"], recognise, build)
