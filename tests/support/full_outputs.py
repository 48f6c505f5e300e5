"""Outputs of every family of heads at the sizes that models have in service: 640x640, 80 classes where there are any.

A few rows hold objects, so that decoding and suppression have what they have in service; the rest is background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamd.models.contract import Array, Floats

SIDE, CLASSES = 640, 80
OBJECTS, COPIES = 20, 8
CELLS = {stride: (SIDE // stride) ** 2 for stride in (8, 16, 32)}
ROWS = sum(CELLS.values())


@dataclass(frozen=True)
class Layout:
    """outputs: by name, of one picture. model: what `tests.support.tiny_models.Tiny` needs besides."""

    outputs: Callable[[], Mapping[str, Array]]
    model: Mapping[str, Any] = field(default_factory=dict)


def _lines(rows: int) -> Array:
    """Where the objects are: their copies lie together, as in a head."""
    starts = np.linspace(0, rows - COPIES, OBJECTS).astype(int)
    return (starts[:, None] + np.arange(COPIES)).ravel()


def _boxes(scale: float = 1.0) -> Floats:
    """Centre and size of every copy, float32 [OBJECTS * COPIES, 4]; the objects stand in a row."""
    x = np.repeat(np.linspace(40, 600, OBJECTS), COPIES) + np.tile(np.arange(COPIES) * 0.5, OBJECTS)
    return (np.stack([x, x, np.full(x.shape, 24), np.full(x.shape, 48)], axis=1) * scale).astype(np.float32)


def _corners(scale: float = 1.0) -> Floats:
    boxes = _boxes(scale)
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def _scored(rows: Array, first: int, classes: int, lines: Array, score: float = 0.8) -> Array:
    """Background scores of a thousandth, and one class each for the objects' lines."""
    rows[:, first:] = 0.001
    rows[lines, first + np.arange(len(lines)) // COPIES % classes] = score
    return rows


def _yolox() -> Mapping[str, Array]:
    rows = _scored(np.zeros((ROWS, 5 + CLASSES), np.float32), 5, CLASSES, _lines(ROWS))
    rows[:, 4] = 0.001
    rows[_lines(ROWS), 4] = 0.9
    rows[_lines(ROWS), 2:4] = np.log(3)
    return {"output": rows}


def _yolo() -> Mapping[str, Array]:
    rows = _scored(np.zeros((ROWS, 4 + CLASSES), np.float32), 4, CLASSES, _lines(ROWS))
    rows[_lines(ROWS), :4] = _boxes()
    return {"output0": np.ascontiguousarray(rows.T)}


def _yolov5() -> Mapping[str, Array]:
    rows = _scored(np.zeros((3 * ROWS, 5 + CLASSES), np.float32), 5, CLASSES, _lines(3 * ROWS))
    rows[:, 4] = 0.001
    rows[_lines(3 * ROWS), 4] = 0.9
    rows[_lines(3 * ROWS), :4] = _boxes()
    return {"output0": rows}


def _end2end() -> Mapping[str, Array]:
    rows = np.zeros((300, 6), np.float32)
    rows[:OBJECTS, :4] = _corners()[::COPIES]
    rows[:OBJECTS, 4] = np.linspace(0.9, 0.5, OBJECTS)
    rows[:OBJECTS, 5] = np.arange(OBJECTS)
    return {"output0": rows}


def _detr() -> Mapping[str, Array]:
    labels, boxes, scores = np.zeros(300, np.int64), np.zeros((300, 4), np.float32), np.zeros(300, np.float32)
    labels[:OBJECTS], scores[:OBJECTS] = np.arange(OBJECTS), 0.8
    boxes[:OBJECTS] = _corners(1 / SIDE)[::COPIES]
    return {"labels": labels, "boxes": boxes, "scores": scores}


def _nanodet() -> Mapping[str, Array]:
    scores, bins = {}, {}
    for stride, cells in CELLS.items():
        table = np.zeros((cells, CLASSES), np.float32)
        lines = _lines(cells)
        scores[f"cls_pred_stride_{stride}"] = (
            _scored(table, 0, CLASSES, lines) if stride == 16 else table + 0.001
        )
        bins[f"dis_pred_stride_{stride}"] = np.tile(np.arange(8, dtype=np.float32) / 8, (cells, 4))
    return scores | bins


def _ssd() -> Mapping[str, Array]:
    scores, boxes = np.full((3000, 21), 0.001, np.float32), np.zeros((3000, 4), np.float32)
    lines = _lines(3000)
    scores[:, 0] = 0.98
    scores[lines, 1 + np.arange(len(lines)) // COPIES % 20] = 0.8
    boxes[lines] = _corners(1 / SIDE)
    return {"scores": scores, "boxes": boxes}


def _yunet() -> Mapping[str, Array]:
    tables = {}
    for kind, columns in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items():
        for stride, cells in CELLS.items():
            table = np.full((cells, columns), 0.001 if columns == 1 else 0.5, np.float32)
            if columns == 1 and stride == 16:
                table[_lines(cells)] = 0.9
            tables[f"{kind}_{stride}"] = table
    return tables


def _fastestdet() -> Mapping[str, Array]:
    cells = (SIDE // 16) ** 2
    table = np.zeros((5 + CLASSES, cells), np.float32)
    lines = _lines(cells)
    table[0], table[5:] = 0.001, 0.001
    table[0, lines] = 0.9
    table[5 + np.arange(len(lines)) // COPIES % CLASSES, lines] = 0.9
    table[3:5] = -3
    return {"758": table.reshape(5 + CLASSES, SIDE // 16, SIDE // 16)}


LAYOUTS: Mapping[str, Layout] = {
    "yolox": Layout(_yolox),
    "yolo": Layout(_yolo),
    "yolov5": Layout(_yolov5),
    "end2end": Layout(_end2end),
    "detr": Layout(_detr, {"target_sizes": True}),
    "nanodet": Layout(_nanodet),
    "ssd": Layout(_ssd),
    "yunet": Layout(_yunet),
    "fastestdet": Layout(_fastestdet),
}
"""One layout of each family, the one that is most in use."""
