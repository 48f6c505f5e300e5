"""Graphs to measure with: a detector of YOLOv10-N's size with random weights, and one that does nothing.

Only their size and shape matter: what they find means nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 80
IDLE_SIDE = 64
"""Pixels: so small that no picture costs anything, and only the path is measured."""
_KEPT = 300
_WIDTHS = (16, 32, 64, 128, 256)
_REPEATS = (0, 1, 3, 3, 2)


class _Builder:
    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.parameters = 0
        self._random = np.random.default_rng(seed)

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: object) -> list[str]:
        names = [f"{operator.lower()}{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def conv(self, source: str, before: int, after: int, *, kernel: int = 3, stride: int = 1) -> str:
        scale = (2 / (before * kernel * kernel)) ** 0.5
        weight = self._random.normal(0, scale, (after, before, kernel, kernel)).astype(np.float32)
        self.parameters += weight.size + after
        names = [self.constant(weight), self.constant(np.zeros(after, np.float32))]
        pads = [kernel // 2] * 4
        (made,) = self.node(
            "Conv", source, *names, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads
        )
        return made

    def silu(self, source: str) -> str:
        (gate,) = self.node("Sigmoid", source)
        return self.node("Mul", source, gate)[0]

    def block(self, source: str, width: int) -> str:
        """Two convolutions beside a shortcut, over half of the channels."""
        left, right = self.node("Split", source, self.constant(np.array([width // 2] * 2)), outputs=2, axis=1)
        half = width // 2
        inner = self.silu(self.conv(self.silu(self.conv(right, half, half)), half, half))
        (joined,) = self.node("Add", right, inner)
        (whole,) = self.node("Concat", left, joined, axis=1)
        return self.silu(self.conv(whole, width, width, kernel=1))


def make_detector(path: Path, side: int, seed: int = 0) -> int:
    """Writes [n, 3, side, side] float32 in, [n, 300, 6] out (box, score, class), no suppression needed.

    side: a multiple of 32. Returns the number of parameters.
    """
    made = _Builder(seed)
    source, before, levels = "images", 3, []
    for width, repeats in zip(_WIDTHS, _REPEATS, strict=True):
        source = made.silu(made.conv(source, before, width, stride=2))
        for _ in range(repeats):
            source = made.block(source, width)
        levels.append((source, width))
        before = width
    rows = []
    for source, width in levels[2:]:
        head = made.silu(made.conv(made.silu(made.conv(source, width, 64)), 64, 64))
        maps = made.conv(head, 64, 4 + CLASSES, kernel=1)
        rows += made.node("Reshape", maps, made.constant(np.array([0, 4 + CLASSES, -1])))
    (columns,) = made.node("Concat", *rows, axis=2)
    (lines,) = made.node("Transpose", columns, perm=[0, 2, 1])
    sizes = made.constant(np.array([4, CLASSES]))
    boxes, logits = made.node("Split", lines, sizes, outputs=2, axis=2)
    (scores,) = made.node("Sigmoid", logits)
    (best,) = made.node("ReduceMax", scores, axes=[2], keepdims=0)
    (numbers,) = made.node("ArgMax", scores, axis=2, keepdims=1)
    kept = min(_KEPT, sum((side // stride) ** 2 for stride in (8, 16, 32)))
    values, places = made.node("TopK", best, made.constant(np.array([kept])), outputs=2, axis=1)
    (lifted,) = made.node("Unsqueeze", places, made.constant(np.array([2])))
    (wide,) = made.node("Tile", lifted, made.constant(np.array([1, 1, 4])))
    (chosen,) = made.node("GatherElements", boxes, wide, axis=1)
    (classes,) = made.node("GatherElements", numbers, lifted, axis=1)
    (floats,) = made.node("Cast", classes, to=TensorProto.FLOAT)
    (column,) = made.node("Unsqueeze", values, made.constant(np.array([2])))
    made.nodes.append(helper.make_node("Concat", [chosen, column, floats], ["output0"], axis=2))
    _save(path, made.nodes, made.constants, ["n", 3, side, side], TensorProto.FLOAT, kept)
    return made.parameters


def make_idle(path: Path, side: int) -> None:
    """Writes [n, 3, side, side] uint8 in, [n, 300, 6] zeros out: what is left is everybody else's time."""
    nodes = [
        helper.make_node("Shape", ["images"], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["nought", "shape"], ["output0"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([_KEPT, 6]), "rest"),
        numpy_helper.from_array(np.zeros(1, np.float32), "nought"),
    ]
    _save(path, nodes, constants, ["n", 3, side, side], TensorProto.UINT8, _KEPT, opset=15)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shape: list[int | str],
    element: int,
    kept: int,
    opset: int = 13,
) -> None:
    picture = helper.make_tensor_value_info("images", element, shape)
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["n", kept, 6])
    graph = helper.make_graph(nodes, path.stem, [picture], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    names = {number: f"class_{number}" for number in range(CLASSES)}
    for key, value in {"author": "Ultralytics", "task": "detect", "names": str(names)}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
