"""Outputs of every family of heads that hold known boxes: the families' formulas turned round."""

from __future__ import annotations

import numpy as np

from streamd.models.contract import Array, Floats

WIDTH, HEIGHT = 96, 64
"""The input's size. Its grids have 96 + 24 + 6 = 126 cells at the strides 8, 16, 32."""
BOXES: Floats = np.array([[8, 16, 40, 56], [50.5, 4.25, 90, 30], [10, 10, 20, 30]], np.float32)
SCORES: Floats = np.array([0.9, 0.8, 0.5], np.float32)
CLASSES = np.array([2, 0, 1])
"""Of three classes."""
COUNT = 3


def cells(strides: tuple[int, ...] = (8, 16, 32)) -> tuple[Floats, Floats]:
    """x, y of every cell in cells, float32 [n, 2], and its stride, float32 [n, 1]; plain loops."""
    places, sizes = [], []
    for stride in strides:
        for y in range(-(-HEIGHT // stride)):
            for x in range(-(-WIDTH // stride)):
                places.append((x, y))
                sizes.append((stride,))
    return np.array(places, np.float32), np.array(sizes, np.float32)


def centre_size() -> tuple[Floats, Floats]:
    return (BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]


def one_hot(rows: Array, lines: list[int], at: int, scores: Floats = SCORES) -> None:
    for line, class_id, score in zip(lines, CLASSES, scores, strict=True):
        rows[line, at + class_id] = score


LINES = [37, 100, 125]
"""Where the boxes are planted among the 126 cells: one in each level."""


def yolox() -> dict[str, Array]:
    places, strides = cells()
    rows = np.zeros((len(places), 5 + COUNT), np.float32)
    centre, size = centre_size()
    rows[LINES, :2] = centre / strides[LINES] - places[LINES]
    rows[LINES, 2:4] = np.log(size / strides[LINES])
    rows[LINES, 4] = 1.0
    one_hot(rows, LINES, 5)
    return {"output": rows}


def yolov5(lines: int = 3 * 126) -> dict[str, Array]:
    rows = np.zeros((lines, 5 + COUNT), np.float32)
    rows[LINES, :4] = np.concatenate(centre_size(), axis=1)
    rows[LINES, 4] = 1.0
    one_hot(rows, LINES, 5)
    return {"output": rows}


def yolo() -> dict[str, Array]:
    rows = np.zeros((126, 4 + COUNT), np.float32)
    rows[LINES, :4] = np.concatenate(centre_size(), axis=1)
    one_hot(rows, LINES, 4)
    return {"output0": np.ascontiguousarray(rows.T)}


def end2end() -> dict[str, Array]:
    rows = np.zeros((300, 6), np.float32)
    rows[:3] = np.concatenate([BOXES, SCORES[:, None], CLASSES[:, None]], axis=1)
    return {"output0": rows}


def detr() -> dict[str, Array]:
    """Boxes are relative: the model multiplies them by the target sizes."""
    labels, boxes, scores = np.zeros(300, np.int64), np.zeros((300, 4), np.float32), np.zeros(300, np.float32)
    labels[:3], scores[:3] = CLASSES, SCORES
    boxes[:3] = BOXES / np.array([WIDTH, HEIGHT] * 2, np.float32)
    return {"labels": labels, "boxes": boxes, "scores": scores}


def raw_detr() -> dict[str, Array]:
    logits, boxes = np.full((300, COUNT), -9, np.float32), np.zeros((300, 4), np.float32)
    one_hot(logits, [7, 8, 299], 0, np.log(SCORES / (1 - SCORES)))
    side = np.array([WIDTH, HEIGHT], np.float32)
    centre, size = centre_size()
    boxes[[7, 8, 299]] = np.concatenate([centre / side, size / side], axis=1)
    return {"pred_logits": logits, "pred_boxes": boxes}


def joined_detr() -> dict[str, Array]:
    rows = np.zeros((300, 4 + COUNT), np.float32)
    side = np.array([WIDTH, HEIGHT], np.float32)
    centre, size = centre_size()
    rows[LINES, :4] = np.concatenate([centre / side, size / side], axis=1)
    one_hot(rows, LINES, 4)
    return {"output0": rows}


def _bins(distances: Floats) -> Floats:
    """Logits of a distribution over 0 to 7 whose mean is each distance: all weight on the two next to it."""
    logits = np.full((*distances.shape, 8), -50, np.float32)
    low = np.floor(distances).astype(int)
    share = distances - low
    for index in np.ndindex(distances.shape):
        logits[(*index, low[index])] = np.log(max(1 - share[index], 1e-20))
        if share[index] > 0:
            logits[(*index, low[index] + 1)] = np.log(share[index])
    return logits.reshape(*distances.shape[:-1], 32)


def nanodet(plus: bool = False) -> Floats:
    """One output [cells, classes + 32]; the boxes lie where distances of at most 7 strides reach."""
    strides = (8, 16, 32, 64) if plus else (8, 16, 32)
    places, sizes = cells(strides)
    middle = places * sizes + (0 if plus else 0.5 * (sizes - 1))
    rows = np.zeros((len(places), COUNT + 32), np.float32)
    lines = NANODET_LINES
    distances = (
        np.concatenate([middle[lines] - BOXES[:, :2], BOXES[:, 2:] - middle[lines]], axis=1) / sizes[lines]
    )
    rows[lines, COUNT:] = _bins(distances)
    one_hot(rows, lines, 0)
    return rows


NANODET_LINES = [4 * 12 + 3, 96 + 1 * 6 + 4, 2 * 12 + 2]
"""Cells inside the boxes, as the distances are positive."""


def nanodet_levels() -> dict[str, Array]:
    rows = nanodet()
    parts = {8: rows[:96], 16: rows[96:120], 32: rows[120:]}
    scores = {f"cls_pred_stride_{stride}": part[:, :COUNT].copy() for stride, part in parts.items()}
    return scores | {f"dis_pred_stride_{stride}": part[:, COUNT:].copy() for stride, part in parts.items()}


def ssd() -> dict[str, Array]:
    scores, boxes = np.zeros((200, 1 + COUNT), np.float32), np.zeros((200, 4), np.float32)
    scores[:, 0] = 1
    one_hot(scores, LINES, 1)
    boxes[LINES] = BOXES / np.array([WIDTH, HEIGHT] * 2, np.float32)
    return {"scores": scores, "boxes": boxes}


KEYPOINTS: Floats = np.arange(30, dtype=np.float32).reshape(3, 5, 2)


def yunet() -> dict[str, Array]:
    places, strides = cells()
    kinds = {kind: np.zeros((126, columns), np.float32) for kind, columns in YUNET_COLUMNS.items()}
    centre, size = centre_size()
    kinds["cls"][LINES, 0] = SCORES
    kinds["obj"][LINES, 0] = SCORES
    kinds["bbox"][LINES, :2] = centre / strides[LINES] - places[LINES]
    kinds["bbox"][LINES, 2:] = np.log(size / strides[LINES])
    points = KEYPOINTS / strides[LINES][:, None] - places[LINES][:, None]
    kinds["kps"][LINES] = points.reshape(3, 10)
    levels = {8: slice(0, 96), 16: slice(96, 120), 32: slice(120, 126)}
    return {f"{kind}_{stride}": kinds[kind][part] for kind in kinds for stride, part in levels.items()}


YUNET_COLUMNS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def fastestdet() -> dict[str, Array]:
    """6 x 4 cells of 16 pixels; score = objectness^0.6 * class^0.4."""
    channels = np.zeros((5 + COUNT, 24), np.float32)
    side = np.array([WIDTH, HEIGHT], np.float32)
    centre, size = centre_size()
    for line, (box, class_id) in enumerate(zip(BOXES, CLASSES, strict=True)):
        x, y = (int(part) for part in centre[line] // 16)
        cell = y * 6 + x
        channels[0, cell] = SCORES[line]
        channels[1:3, cell] = np.arctanh(centre[line] / 16 - (x, y))
        channels[3:5, cell] = np.log((size / side)[line] / (1 - (size / side)[line]))
        channels[5 + class_id, cell] = SCORES[line]
        assert box[2] > box[0]
    return {"758": channels.reshape(5 + COUNT, 4, 6)}
