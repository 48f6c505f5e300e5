"""YOLOX: one output [n, rows, 5 + classes], a row per grid cell, sizes as logarithms of strides.

Source of the formula: YOLOX `demo_postprocess` (Megvii, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head, Tensor
from streamd.models.heads import rows
from streamd.models.presets import PRESETS

_LARGEST_LOG = 12.0
"""exp(12) strides are wider than any picture: sizes above it are pixels, decoded already."""
_NANODET_SIDES = 32
_V8_COCO = 84


@dataclass(slots=True)
class Yolox:
    """Decodes the raw grid. `places` float32 [rows, 2] in cells, `strides` float32 [rows, 1] in pixels."""

    output: str
    classes: int | None
    places: Floats
    strides: Floats
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        raw = rows.picture_row(outputs[0], row, (len(self.places), 5 + len(floors)), self.output)
        picked, scores, class_ids = rows.best_with_objectness(raw, floors)
        place = rows.floats(raw[picked, :4])
        stride = self.strides[picked]
        with np.errstate(all="ignore"):
            if rows.typical(place[:, 2:]) > _LARGEST_LOG:
                raise ModelError(
                    f"the model's output {self.output!r} holds decoded boxes, not a YOLOX grid; "
                    "set head: yolov5, which reads them"
                )
            boxes = rows.corners((place[:, :2] + self.places[picked]) * stride, np.exp(place[:, 2:]) * stride)
        return rows.candidates(boxes, scores, class_ids)


def recognise(graph: Graph) -> str | None:
    """By its rows, one per cell. Numbers of columns that others share are left to names, or to the user."""
    found = _fitting(graph)
    if found is None:
        return None
    output, strides = found
    columns = rows.count(output.shape[2])
    named = graph.input.name == "images"  # as YOLOX's own exporter calls it
    if len(strides) > 3 and columns > _NANODET_SIDES and not named:
        return None  # NanoDet-Plus
    if columns > _NANODET_SIDES and columns != 85 and not named:
        return None  # NanoDet in one output, with fewer classes
    if columns == _V8_COCO or rows.levels_of(columns, graph.input):
        return None  # the transposed layout of `yolo`
    return f"one output of {output.shape[1]} rows, one per cell of the strides {', '.join(map(str, strides))}"


def build(graph: Graph) -> Head:
    """Raises ModelError when the outputs are no YOLOX grid."""
    found = _fitting(graph)
    if found is None:
        raise rows.refuse(graph, "yolox", "one output [n, rows, 5 + classes] with a row per grid cell")
    output, strides = found
    places, sizes = rows.grid(graph.input, strides)
    return Yolox(output.name, rows.count(output.shape[2]) - 5, places, sizes)


def _fitting(graph: Graph) -> tuple[Tensor, tuple[int, ...]] | None:
    output = rows.only(graph.outputs, 3)
    if output is None or rows.count(output.shape[2]) < 6:
        return None
    strides = rows.levels_of(output.shape[1], graph.input)
    return (output, strides) if strides else None


FAMILY = Family("yolox", PRESETS["yolox"], recognise, build, shared=True)
