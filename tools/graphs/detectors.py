"""Two detectors of the sizes that run at the edge: laid out as YOLOv8-n with a raw head, and as YOLOv10-n end to end.

The layers follow the published descriptions of both families, since their mix of large and small, dense and depthwise
convolutions is what a runtime's time depends on. What they find is planted, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from tools.graphs.net import Net, Wire
from tools.graphs.planted import Planted

CLASSES = 80
_BINS = 16  # of the distribution over distances, in cells
_STRIDES = (8, 16, 32)
_KEPT = 300
_HIDDEN = -9.0
"""Bias of the class logits: scores of random weights stay about 1e-4, so that only what is planted counts."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a graph is like: its input's size, whether it takes any number of pictures, its seed, what is planted."""

    height: int = 640
    width: int = 640
    dynamic: bool = False
    seed: int = 0
    planted: Planted = field(default_factory=Planted)

    def __post_init__(self) -> None:
        if self.height < 32 or self.width < 32 or self.height % 32 or self.width % 32:
            raise ValueError(f"{self.height}x{self.width}: both sides must be multiples of 32")

    @property
    def batch(self) -> int | str:
        return "batch" if self.dynamic else 1

    @property
    def lines(self) -> int:
        """Rows of a raw head: one a cell of every stride."""
        return sum((self.height // stride) * (self.width // stride) for stride in _STRIDES)


def yolov8n(form: Form) -> onnx.ModelProto:
    """float32 [n, 3, H, W] to [n, 84, cells]: centre, size and 80 scores below each other, suppression left to do."""
    net = Net(form.seed)
    levels = _pyramid8(net, Wire("images", 3))
    centre, half, scores = _decoded(net, form, [_branches8(net, level) for level in levels])
    size = net.node("Add", [half, half])[0]
    (raw,) = net.node("Concat", [centre, size, scores], axis=1)
    found = form.planted.candidates(form.width, form.height, CLASSES)
    boxes = np.concatenate([(found[:, :2] + found[:, 2:4]) / 2, found[:, 2:4] - found[:, :2]], axis=1)
    raw = _plant(net, form, raw, boxes, found[:, 4:])
    return _finished(net, form, raw, (4 + CLASSES, form.lines))


def yolov10n(form: Form) -> onnx.ModelProto:
    """float32 [n, 3, H, W] to [n, 300, 6]: corners, score and class of the best 300, picked in the graph (TopK)."""
    net = Net(form.seed)
    levels = _pyramid10(net, Wire("images", 3))
    centre, half, scores = _decoded(net, form, [_branches10(net, level) for level in levels])
    low, high = net.node("Sub", [centre, half])[0], net.node("Add", [centre, half])[0]
    (raw,) = net.node("Concat", [low, high, scores], axis=1)
    found = form.planted.candidates(form.width, form.height, CLASSES)
    raw = _plant(net, form, raw, found[:, :4], found[:, 4:])
    kept = min(_KEPT, form.lines)
    return _finished(net, form, _best(net, net.transposed(raw, 0, 2, 1), kept), (kept, 6))


# -- bodies --------------------------------------------------------------------------------------------


def _csp(net: Net, x: Wire, channels: int, turns: int, *, shortcut: bool, inverted: bool = False) -> Wire:
    """Half of the channels goes through `turns` blocks, and what each of them gives is kept to the end."""
    half = channels // 2
    parts = net.split(net.conv(x, 2 * half), half, half)
    for _ in range(turns):
        y = _inverted(net, parts[-1]) if inverted else net.conv(net.conv(parts[-1], half, 3), half, 3)
        parts.append(net.add(parts[-1], y) if shortcut else y)
    return net.conv(net.concat(*parts), channels)


def _inverted(net: Net, x: Wire) -> Wire:
    """Depthwise and pointwise by turns, the middle one with a large field of view."""
    y = net.conv(net.conv(x, x.channels, 3, groups=x.channels), 2 * x.channels)
    y = net.conv(y, y.channels, 7, groups=y.channels)
    return net.conv(net.conv(y, x.channels), x.channels, 3, groups=x.channels)


def _pyramid_pooling(net: Net, x: Wire) -> Wire:
    parts = [net.conv(x, x.channels // 2)]
    for _ in range(3):
        parts.append(net.pooled(parts[-1]))
    return net.conv(net.concat(*parts), x.channels)


def _halved(net: Net, x: Wire, channels: int) -> Wire:
    """Half the size: channels first, then space depthwise."""
    return net.plain(net.conv(x, channels), channels, 3, 2, groups=channels)


def _attention(net: Net, x: Wire) -> Wire:
    """Self-attention over all cells of half of the channels, and a feed-forward part."""
    half = x.channels // 2
    kept, y = net.split(net.conv(x, x.channels), half, half)
    heads = max(1, half // 64)
    width, narrow = half // heads, half // heads // 2
    mixed = net.plain(y, heads * (2 * narrow + width), gain=1.0)
    table = net.reshaped(mixed.name, 0, heads, 2 * narrow + width, -1)
    query = net.sliced(table, 0, narrow, 2)
    key = net.sliced(table, narrow, 2 * narrow, 2)
    value = net.sliced(table, 2 * narrow, 2 * narrow + width, 2)
    (looks,) = net.node("MatMul", [net.transposed(query, 0, 1, 3, 2), key])
    (scaled,) = net.node("Mul", [looks, net.constant(np.float32(narrow**-0.5))])
    (shares,) = net.node("Softmax", [scaled], axis=3)
    (seen,) = net.node("MatMul", [value, net.transposed(shares, 0, 1, 3, 2)])
    # Back to the picture's shape, which only the graph's own tensor knows for every input size.
    shape = net.node("Shape", [y.name])[0]
    picture = Wire(net.node("Reshape", [seen, shape])[0], half)
    y = net.add(y, net.plain(picture, half, gain=1.0))
    y = net.add(y, net.plain(net.conv(y, 2 * half), half, gain=1.0))
    return net.conv(net.concat(kept, y), x.channels)


def _pyramid8(net: Net, x: Wire) -> list[Wire]:
    x = _csp(net, net.conv(net.conv(x, 16, 3, 2), 32, 3, 2), 32, 1, shortcut=True)
    fine = _csp(net, net.conv(x, 64, 3, 2), 64, 2, shortcut=True)
    middle = _csp(net, net.conv(fine, 128, 3, 2), 128, 2, shortcut=True)
    coarse = _csp(net, net.conv(middle, 256, 3, 2), 256, 1, shortcut=True)
    coarse = _pyramid_pooling(net, coarse)
    middle = _csp(net, net.concat(net.doubled(coarse), middle), 128, 1, shortcut=False)
    fine = _csp(net, net.concat(net.doubled(middle), fine), 64, 1, shortcut=False)
    middle = _csp(net, net.concat(net.conv(fine, 64, 3, 2), middle), 128, 1, shortcut=False)
    coarse = _csp(net, net.concat(net.conv(middle, 128, 3, 2), coarse), 256, 1, shortcut=False)
    return [fine, middle, coarse]


def _pyramid10(net: Net, x: Wire) -> list[Wire]:
    x = _csp(net, net.conv(net.conv(x, 16, 3, 2), 32, 3, 2), 32, 1, shortcut=True)
    fine = _csp(net, net.conv(x, 64, 3, 2), 64, 2, shortcut=True)
    middle = _csp(net, _halved(net, fine, 128), 128, 2, shortcut=True)
    coarse = _csp(net, _halved(net, middle, 256), 256, 1, shortcut=True)
    coarse = _attention(net, _pyramid_pooling(net, coarse))
    middle = _csp(net, net.concat(net.doubled(coarse), middle), 128, 1, shortcut=False)
    fine = _csp(net, net.concat(net.doubled(middle), fine), 64, 1, shortcut=False)
    middle = _csp(net, net.concat(net.conv(fine, 64, 3, 2), middle), 128, 1, shortcut=False)
    last = net.concat(_halved(net, middle, 128), coarse)
    return [fine, middle, _csp(net, last, 256, 1, shortcut=True, inverted=True)]


# -- heads ---------------------------------------------------------------------------------------------


def _branches8(net: Net, x: Wire) -> tuple[Wire, Wire]:
    """Distances (4 * 16 bins) and class logits of one level."""
    boxes = net.plain(net.conv(net.conv(x, 64, 3), 64, 3), 4 * _BINS, gain=1.0)
    classes = net.conv(net.conv(x, CLASSES, 3), CLASSES, 3)
    return boxes, net.plain(classes, CLASSES, gain=0.01, bias=_HIDDEN)


def _branches10(net: Net, x: Wire) -> tuple[Wire, Wire]:
    boxes = net.plain(net.conv(net.conv(x, 64, 3), 64, 3), 4 * _BINS, gain=1.0)
    y = net.conv(net.conv(x, x.channels, 3, groups=x.channels), CLASSES)
    y = net.conv(net.conv(y, CLASSES, 3, groups=CLASSES), CLASSES)
    return boxes, net.plain(y, CLASSES, gain=0.01, bias=_HIDDEN)


def _decoded(net: Net, form: Form, levels: list[tuple[Wire, Wire]]) -> tuple[str, str, str]:
    """Centres [n, 2, cells] and half sizes [n, 2, cells] in input pixels, and scores [n, 80, cells]."""
    bins = [net.reshaped(boxes.name, 0, 4 * _BINS, -1) for boxes, _ in levels]
    logits = [net.reshaped(classes.name, 0, CLASSES, -1) for _, classes in levels]
    (joined,) = net.node("Concat", bins, axis=2)
    spread = net.transposed(net.reshaped(joined, 0, 4, _BINS, -1), 0, 2, 1, 3)
    (shares,) = net.node("Softmax", [spread], axis=1)
    # The mean of each distribution, as a convolution over its bins.
    steps = net.constant(np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
    (mean,) = net.node("Conv", [shares, steps], kernel_shape=[1, 1])
    distances = net.reshaped(mean, 0, 4, -1)
    places, strides = _grid(form)
    cells, pixels = net.constant(places.T[None]), net.constant(strides.T[None])
    (low,) = net.node("Sub", [cells, net.sliced(distances, 0, 2, 1)])
    (high,) = net.node("Add", [cells, net.sliced(distances, 2, 4, 1)])
    half = net.constant(np.float32(0.5))
    centre, side = net.node("Add", [low, high])[0], net.node("Sub", [high, low])[0]
    middle = net.node("Mul", [net.node("Mul", [centre, half])[0], pixels])[0]
    reach = net.node("Mul", [net.node("Mul", [side, half])[0], pixels])[0]
    (scores,) = net.node("Sigmoid", net.node("Concat", logits, axis=2))
    return middle, reach, scores


def _grid(form: Form) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The middle of every cell in cells, [cells, 2], and its stride, [cells, 1]."""
    places, strides = [], []
    for stride in _STRIDES:
        across, down = form.width // stride, form.height // stride
        x, y = np.meshgrid(np.arange(across) + 0.5, np.arange(down) + 0.5)
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((across * down, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _plant(net: Net, form: Form, raw: str, boxes: NDArray[np.float32], scored: NDArray[np.float32]) -> str:
    """`raw` [n, 84, cells] with the planted columns in place of its own. scored: score and class of each."""
    if not len(boxes):
        return raw
    columns = np.zeros((1, 4 + CLASSES, form.lines), np.float32)
    at = form.planted.places(form.lines)
    columns[0, :4, at] = boxes
    columns[0, 4 + scored[:, 1].astype(int), at] = scored[:, 0]
    here = np.zeros((1, 1, form.lines), np.bool_)
    here[0, 0, at] = True
    return net.node("Where", [net.constant(here), net.constant(columns), raw])[0]


def _best(net: Net, rows: str, kept: int) -> str:
    """The `kept` best pairs of box and class: [n, cells, 84] to [n, kept, 6]. First boxes, then their pairs."""
    boxes, scores = net.sliced(rows, 0, 4, 2), net.sliced(rows, 4, 4 + CLASSES, 2)
    count = net.constant(np.array([kept], np.int64))
    best = net.node("ReduceMax", [scores], axes=[2], keepdims=0)[0]
    _, lines = net.node("TopK", [best, count], 2, axis=1)
    few_boxes, few_scores = _gathered(net, boxes, lines, 4), _gathered(net, scores, lines, CLASSES)
    values, pairs = net.node("TopK", [net.reshaped(few_scores, 0, kept * CLASSES), count], 2, axis=1)
    classes = net.constant(np.int64(CLASSES))
    (line,) = net.node("Div", [pairs, classes])
    (number,) = net.node("Mod", [pairs, classes])
    corners = _gathered(net, few_boxes, line, 4)
    (label,) = net.node("Cast", [number], to=TensorProto.FLOAT)
    last = net.constant(np.array([2], np.int64))
    columns = [net.node("Unsqueeze", [part, last])[0] for part in (values, label)]
    return net.node("Concat", [corners, *columns], axis=2)[0]


def _gathered(net: Net, table: str, lines: str, columns: int) -> str:
    """Of [n, m, columns] the rows `lines` [n, k]: [n, k, columns]."""
    (column,) = net.node("Unsqueeze", [lines, net.constant(np.array([2], np.int64))])
    wide = net.node("Tile", [column, net.constant(np.array([1, 1, columns], np.int64))])[0]
    return net.node("GatherElements", [table, wide], axis=1)[0]


def _finished(net: Net, form: Form, tensor: str, shape: tuple[int, int]) -> onnx.ModelProto:
    names = [f"class_{number}" for number in range(CLASSES)]
    return net.model(
        ("images", TensorProto.FLOAT, (form.batch, 3, form.height, form.width)),
        (tensor, (form.batch, *shape)),
        {"streamd.input": "ultralytics", "streamd.labels": names},
    )
