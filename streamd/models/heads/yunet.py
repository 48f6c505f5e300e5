"""YuNet: faces with five landmarks, four outputs (cls, obj, bbox, kps) at each of the strides 8, 16, 32.

Source of the formula: OpenCV's FaceDetectorYN (Apache-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head
from streamd.models.heads import rows
from streamd.models.presets import PRESETS

_NAME = re.compile(r"(cls|obj|bbox|kps)_(8|16|32)")
_COLUMNS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
_LARGEST_STRIDE = 32


@dataclass(slots=True)
class YuNet:
    """index: an output's number by (kind, stride). places float32 [cells, 2], strides float32 [cells, 1]."""

    index: dict[tuple[str, int], int]
    level_rows: dict[int, int]
    places: Floats
    strides: Floats
    classes: int | None = 1
    nms: bool = True

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        face, there, boxes, points = (self._levels(outputs, row, kind) for kind in _COLUMNS)
        with np.errstate(all="ignore"):
            scores = np.sqrt(np.clip(rows.floats(face), 0, 1) * np.clip(rows.floats(there), 0, 1))[:, 0]
            class_ids = np.zeros(len(scores), np.int64)
            kept = rows.reaching(scores, class_ids, floors)
            place, stride = self.places[kept], self.strides[kept]
            box = rows.floats(boxes[kept])
            corners = rows.corners((place + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride)
            keypoints = (rows.floats(points[kept]).reshape(-1, 5, 2) + place[:, None]) * stride[:, None]
        return rows.candidates(corners, scores[kept], class_ids[kept], keypoints)

    def _levels(self, outputs: Sequence[Array], row: int, kind: str) -> Array:
        """One kind of output over all strides, [cells, columns]."""
        return np.concatenate(
            [
                rows.picture_row(outputs[self.index[kind, stride]], row, (cells, _COLUMNS[kind]), kind)
                for stride, cells in self.level_rows.items()
            ]
        )


def recognise(graph: Graph) -> str | None:
    """By the names of its twelve outputs."""
    return "twelve outputs cls, obj, bbox and kps at three strides" if _index(graph) else None


def build(graph: Graph) -> Head:
    """Raises ModelError without the twelve outputs, or when a side of the input is no multiple of 32."""
    index = _index(graph)
    if index is None:
        raise rows.refuse(graph, "yunet", "the outputs cls_, obj_, bbox_ and kps_ for 8, 16 and 32")
    if graph.input.width % _LARGEST_STRIDE or graph.input.height % _LARGEST_STRIDE:
        raise ModelError(
            "head yunet wants sides that are multiples of 32, the input is "
            f"{graph.input.width} x {graph.input.height}; set another size"
        )
    places, strides = rows.grid(graph.input, rows.THREE_LEVELS)
    per_level = {stride: rows.level_rows(graph.input, stride) for stride in rows.THREE_LEVELS}
    return YuNet(index, per_level, places, strides)


def _index(graph: Graph) -> dict[tuple[str, int], int] | None:
    index = {}
    for number, tensor in enumerate(graph.outputs):
        match = _NAME.fullmatch(tensor.name)
        if match is None or len(tensor.shape) != 3 or tensor.shape[2] not in (_COLUMNS[match[1]], None):
            return None
        index[match[1], int(match[2])] = number
    return index if len(index) == 12 == len(graph.outputs) else None


FAMILY = Family("yunet", PRESETS["yunet"], recognise, build, shared=True, labels=("face",))
