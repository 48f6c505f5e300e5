"""NanoDet: per cell, class scores and the distances to the four sides, each as a distribution over 8 bins.

Two layouts: an output of scores and one of distances per stride, or all in one output
[n, cells, classes + 32]. Source of the formulas: NanoDet's heads (RangiLyu, Apache-2.0): NanoDet-Plus, with a
fourth level, measures from the corner of a cell, the first NanoDet from its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head
from streamd.models.heads import rows
from streamd.models.presets import PRESETS

_BINS = 8
_SIDES = 4 * _BINS


@dataclass(slots=True)
class NanoDet:
    """`levels`: per stride the outputs of scores and of distances, and its rows; both may be the same one.

    places float32 [cells, 2] and strides float32 [cells, 1], in pixels, over all levels.
    """

    levels: tuple[tuple[int, int, int], ...]
    classes: int | None
    places: Floats
    strides: Floats
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        scores, distances = self._split(outputs, row, len(floors))
        picked, best, class_ids = rows.best_classes(scores, floors)
        bins = rows.floats(distances[picked]).reshape(-1, 4, _BINS)
        with np.errstate(all="ignore"):
            weights = np.exp(bins - bins.max(axis=2, keepdims=True))
            mean = (weights * np.arange(_BINS, dtype=np.float32)).sum(axis=2) / weights.sum(axis=2)
            reach = mean * self.strides[picked]
            places = self.places[picked]
            boxes = np.concatenate([places - reach[:, :2], places + reach[:, 2:]], axis=1)
        return rows.candidates(boxes, best, class_ids)

    def _split(self, outputs: Sequence[Array], row: int, classes: int) -> tuple[Array, Array]:
        scores, distances = [], []
        for score, distance, cells in self.levels:
            together = score == distance
            raw = rows.picture_row(outputs[score], row, (cells, classes + _SIDES * together), "scores")
            sides = (
                raw if together else rows.picture_row(outputs[distance], row, (cells, _SIDES), "distances")
            )
            scores.append(raw[:, :classes])
            distances.append(sides[:, -_SIDES:])
        return np.concatenate(scores), np.concatenate(distances)


def recognise(graph: Graph) -> str | None:
    """By the outputs per stride; in one output, by what YOLOX's layout with as many columns cannot be."""
    if _several(graph):
        return "an output of scores and one of 32 distances per stride"
    found = _single(graph)
    if found is None or graph.input.name == "images":
        return None  # YOLOX's exporter calls its input so
    columns, strides = found
    if len(strides) > 3 or columns == 80 + _SIDES or graph.input.name == "data":
        return f"one output of {columns - _SIDES} classes and 32 distances per cell"
    return None


def build(graph: Graph) -> Head:
    """Raises ModelError when the outputs have neither of the two layouts."""
    several = _several(graph)
    found = _single(graph)
    if several:
        levels, classes, strides = several
    elif found:
        columns, strides = found
        classes = columns - _SIDES
        levels = ((0, 0, sum(rows.level_rows(graph.input, stride) for stride in strides)),)
    else:
        wants = "scores and 32 distances per stride, or one output [n, cells, classes + 32]"
        raise rows.refuse(graph, "nanodet", wants)
    if classes < 1:
        raise ModelError("head nanodet: the outputs leave no class")
    cells, sizes = rows.grid(graph.input, strides)
    places = cells * sizes if len(strides) > 3 else cells * sizes + 0.5 * (sizes - 1)
    return NanoDet(levels, classes, places.astype(np.float32), sizes)


def _single(graph: Graph) -> tuple[int, tuple[int, ...]] | None:
    output = rows.only(graph.outputs, 3)
    columns = rows.count(output.shape[2]) if output else 0
    strides = rows.levels_of(output.shape[1], graph.input) if output else None
    return (columns, strides) if strides and strides[0] == 8 and columns > _SIDES else None


def _several(graph: Graph) -> tuple[tuple[tuple[int, int, int], ...], int, tuple[int, ...]] | None:
    """Pairs of outputs by their number of rows, one pair per stride."""
    strides = {6: rows.THREE_LEVELS, 8: rows.FOUR_LEVELS}.get(len(graph.outputs))
    if strides is None or any(len(tensor.shape) != 3 for tensor in graph.outputs):
        return None
    levels = []
    seen = set()
    for stride in strides:
        cells = rows.level_rows(graph.input, stride)
        pair = [index for index, tensor in enumerate(graph.outputs) if tensor.shape[1] == cells]
        pair.sort(key=lambda index: _is_distance(graph, index))
        columns = [rows.count(graph.outputs[index].shape[2]) for index in pair]
        if len(pair) != 2 or columns[1] != _SIDES or columns[0] < 1:
            return None
        seen.add(columns[0])
        levels.append((pair[0], pair[1], cells))
    return (tuple(levels), seen.pop(), strides) if len(seen) == 1 else None


def _is_distance(graph: Graph, index: int) -> tuple[bool, bool]:
    """Sorts distances last: by their 32 columns, and by name where 32 classes have as many."""
    tensor = graph.outputs[index]
    return (tensor.shape[2] == _SIDES, tensor.name.lower().startswith(("dis", "reg", "bbox")))


FAMILY = Family("nanodet", PRESETS["nanodet"], recognise, build, shared=True)
