"""FastestDet: one map [n, 5 + classes, h, w] at stride 16, already activated but for the box.

Source of the formula: FastestDet's `handle_preds` (dog-qiuqiu, BSD-3-Clause).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head, Tensor
from streamd.models.heads import rows
from streamd.models.presets import PRESETS

_STRIDE = 16


@dataclass(slots=True)
class FastestDet:
    """Channels: objectness, tx, ty, tw, th, classes. places float32 [cells, 2]; side: width, height."""

    output: str
    classes: int | None
    shape: tuple[int, int]
    places: Floats
    side: Floats
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        raw = rows.picture_row(outputs[0], row, (5 + len(floors), *self.shape), self.output)
        columns = rows.floats(raw.reshape(5 + len(floors), -1)).T
        with np.errstate(all="ignore"):
            scores = np.power(columns[:, :1], np.float32(0.6)) * np.power(columns[:, 5:], np.float32(0.4))
            picked, best, class_ids = rows.best_classes(scores, floors)
            place = columns[picked, 1:5]
            down, across = self.shape
            cell = self.side / np.array([across, down], np.float32)
            centres = rows.floats((self.places[picked] + np.tanh(place[:, :2])) * cell)
            boxes = rows.corners(centres, self.side * rows.sigmoid(place[:, 2:]))
        return rows.candidates(boxes, best, class_ids)


def recognise(graph: Graph) -> str | None:
    """By its one map at a sixteenth of the input."""
    output = _fitting(graph)
    return f"one map of {output.shape[2]} x {output.shape[3]} cells of 16 pixels" if output else None


def build(graph: Graph) -> Head:
    """Raises ModelError when there is no single map at stride 16."""
    output = _fitting(graph)
    if output is None:
        raise rows.refuse(graph, "fastestdet", "one map [n, 5 + classes, height / 16, width / 16]")
    across, down = rows.cells(graph.input, _STRIDE)
    places, _ = rows.grid(graph.input, [_STRIDE])
    side = np.array([graph.input.width, graph.input.height], np.float32)
    return FastestDet(output.name, rows.count(output.shape[1]) - 5, (down, across), places, side)


def _fitting(graph: Graph) -> Tensor | None:
    output = rows.only(graph.outputs, 4)
    if output is None or rows.count(output.shape[1]) < 6:
        return None
    across, down = rows.cells(graph.input, _STRIDE)
    return output if output.shape[2:] == (down, across) else None


FAMILY = Family("fastestdet", PRESETS["fastestdet"], recognise, build, shared=True)
