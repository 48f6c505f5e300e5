"""The letterbox as an ONNX graph: a decoder's NV12 planes in, pitch and all, a model's input out.

    luma   uint8 [1, 1, H, pitch] ─► Slice ─► Cast ─► Resize ─┐
    chroma uint8 [1, 1, h, pitch] ─► Slice (every second byte, for U and for V) ─► Cast ─► Resize ─┤
           ┌──────────────────────────────────────────────────┘
           └► matrix ─► Round, Clip ─► (turn) ─► Pad ─► (Mul, Add) ─► (Transpose) ─► Cast

It does what `preprocess.Letterbox` does on the processor, step by step as `resize.Resizer` decides them, so that a
model sees the same picture wherever it was decoded; tests/models/test_letterbox_graph.py bounds the difference. All
that a source fixes is a constant here: each graph is for pictures of one form.

The matrix is written as single products and sums, not as a convolution: that one may run in TF32 on a GPU, which
keeps 10 bits. Each node is rounded as IEEE 754 says, so providers differ only in how they write Resize.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamd.core.picture import Matrix
from streamd.models.colour import yuv_matrix
from streamd.models.contract import Array, InputContract, InputShape, Order, Placement

LUMA, CHROMA, PIXELS = "luma", "chroma", "pixels"
"""The names of the graph's inputs and of its output."""

_OPSET, _IR = 13, 8
# Half-pixel centres; pixels repeated, as OpenCV's INTER_NEAREST does it; and as its INTER_NEAREST_EXACT does.
_LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
_REPEATED = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_ceil",
}
_FIRST = -(2**31)
"""As the end of a slice that runs backwards: up to the first, that one too."""
_TYPES = {"uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


@dataclass(frozen=True, slots=True)
class Form:
    """All that the graph depends on but the model: sizes in stored pixels, pitches in bytes."""

    width: int
    height: int
    luma_pitch: int
    chroma_pitch: int
    matrix: Matrix
    full_range: bool
    rotation: int

    @property
    def luma(self) -> tuple[int, int, int, int]:
        """The shape of the luma input."""
        return (1, 1, self.height, self.luma_pitch)

    @property
    def chroma(self) -> tuple[int, int, int, int]:
        """The shape of the chroma input: U and V side by side."""
        return (1, 1, -(-self.height // 2), self.chroma_pitch)


def letterbox_graph(form: Form, placement: Placement, contract: InputContract, shape: InputShape) -> bytes:
    """The graph, as a model in ONNX's file format. Its output is [1, *shape.picture] of the input's type.

    placement: where the upright picture lies in the input (`Letterbox.place`). ONNX's Resize with half-pixel centres
    and no anti-aliasing is what OpenCV's INTER_LINEAR is.
    """
    nodes = _Nodes()
    yuv = _scaled(nodes, form, placement)
    turned = _turned(nodes, _coloured(nodes, yuv, form, contract.order), form.rotation)
    padded = _padded(nodes, turned, placement, contract.fill, shape)
    values = _normalised(nodes, padded, contract, shape.dtype)
    if not shape.channels_first:
        values = nodes.add("Transpose", values, perm=[0, 2, 3, 1])
    kind = _TYPES[shape.dtype.name]
    nodes.last(values, kind)
    graph = helper.make_graph(
        nodes.made,
        "letterbox",
        [
            helper.make_tensor_value_info(LUMA, TensorProto.UINT8, form.luma),
            helper.make_tensor_value_info(CHROMA, TensorProto.UINT8, form.chroma),
        ],
        [helper.make_tensor_value_info(PIXELS, kind, [1, *shape.picture])],
        nodes.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


class _Nodes:
    """Nodes in order, each with one output, and the constants that they read."""

    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}{len(self.made)}"
        self.made.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Array) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def floats(self, *values: float) -> str:
        """One number a channel, for [1, 3, H, W]."""
        return self.constant(np.array(values, np.float32).reshape(1, -1, 1, 1))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def cut(self, name: str, *cuts: tuple[int, int, int, int]) -> str:
        """Slices: (axis, first, end, step) each."""
        starts, ends, axes, steps = (
            self.constant(np.array([cut[at] for cut in cuts], np.int64)) for at in (1, 2, 0, 3)
        )
        return self.add("Slice", name, starts, ends, axes, steps)

    def number(self, name: str) -> str:
        return self.add("Cast", name, to=TensorProto.FLOAT)

    def resized(self, name: str, size: tuple[int, int], how: Mapping[str, str]) -> str:
        """float32 [1, 1, *size]."""
        sizes = self.constant(np.array([1, 1, *size], np.int64))
        return self.add("Resize", name, "", "", sizes, **how)

    def last(self, name: str, to: int) -> None:
        """The output, from `name`."""
        self.made.append(helper.make_node("Cast", [name], [PIXELS], name=PIXELS, to=to))


def _scaled(nodes: _Nodes, form: Form, placement: Placement) -> tuple[str, str, str]:
    """Y, U and V, float32 [1, 1, h, w] each, of the size that the picture has in the input, still as stored.

    Which way each plane takes is `Resizer`'s decision, for its reasons, but for chroma of half the size: that is what
    swscale is fast with, here it would save nothing.
    """
    width, height = form.width, form.height
    lying = form.rotation in (90, 270)
    size = (placement.width, placement.height) if lying else (placement.height, placement.width)
    down, across = height // size[0], width // size[1]
    on_pixels = height % size[0] == 0 and width % size[1] == 0 and bool(down % 2 and across % 2)
    halves = 2 * size[0] <= height and 2 * size[1] <= width
    if on_pixels:
        # Every sample point is a pixel's centre: only those are read, a ninth of 1080p for 640 x 360.
        luma = nodes.number(nodes.cut(LUMA, (2, down // 2, height, down), (3, across // 2, width, across)))
    else:
        luma = nodes.resized(nodes.number(nodes.cut(LUMA, (3, 0, width, 1))), size, _LINEAR)
    found = [luma]
    for part in range(2):
        plane = nodes.number(nodes.cut(CHROMA, (3, part, 2 * -(-width // 2), 2)))
        if not (on_pixels or halves):
            plane = nodes.resized(plane, (height, width), _REPEATED)
        found.append(nodes.resized(plane, size, _NEAREST if on_pixels else _LINEAR))
    return found[0], found[1], found[2]


def _coloured(nodes: _Nodes, yuv: tuple[str, str, str], form: Form, order: Order) -> str:
    """float32 [1, 3, h, w], whole numbers from 0 to 255, in the model's order of channels."""
    table = yuv_matrix(form.matrix, form.full_range, order)
    total = nodes.floats(*table[:, 3])
    for plane, column in zip(yuv, table.T[:3], strict=True):
        total = nodes.add("Add", total, nodes.add("Mul", plane, nodes.floats(*column)))
    return nodes.add("Clip", nodes.add("Round", total), nodes.scalar(0), nodes.scalar(255))


def _turned(nodes: _Nodes, name: str, rotation: int) -> str:
    """Clockwise by so many degrees."""
    if rotation in (90, 270):
        name = nodes.add("Transpose", name, perm=[0, 1, 3, 2])
    axes = {0: (), 90: (3,), 180: (2, 3), 270: (2,)}[rotation]
    return nodes.cut(name, *((axis, -1, _FIRST, -1) for axis in axes)) if axes else name


def _padded(nodes: _Nodes, name: str, placement: Placement, fill: int, shape: InputShape) -> str:
    """float32 [1, 3, H, W] of the model's size."""
    left, top = int(placement.offset_x), int(placement.offset_y)
    right, bottom = shape.width - left - placement.width, shape.height - top - placement.height
    if not (left or top or right or bottom):
        return name
    pads = nodes.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    return nodes.add("Pad", name, pads, nodes.scalar(fill), mode="constant")


def _normalised(nodes: _Nodes, name: str, contract: InputContract, dtype: np.dtype[Any]) -> str:
    gain, shift = contract.gain_and_shift()
    if np.any(gain != 1):
        name = nodes.add("Mul", name, nodes.floats(*gain))
    if np.any(shift != 0):
        name = nodes.add("Add", name, nodes.floats(*shift))
    if dtype == np.uint8 and (np.any(gain != 1) or np.any(shift != 0)):
        name = nodes.add("Clip", nodes.add("Round", name), nodes.scalar(0), nodes.scalar(255))
    return name
