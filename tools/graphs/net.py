"""Puts ONNX nodes together: a tensor goes in, a tensor comes out, weights are drawn from a seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
_IR_VERSION = 8
# What goes through the layers fades slowly, from 1 to some thousandths at the end: far from the denormal numbers that
# slow a CPU down. With 1.7 the sums of the shortcuts grow from layer to layer.
_GAIN = 1.4


@dataclass(frozen=True, slots=True)
class Wire:
    """A tensor on its way through the graph: its name, and how many channels it has."""

    name: str
    channels: int


class Net:
    """A graph that grows. Every method adds nodes and returns what they give."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._named = 0

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Any operator; the names of its outputs."""
        self._named += 1
        names = [f"{kind.lower()}_{self._named}" + (f"_{index}" if index else "") for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def constant(self, values: NDArray[Any]) -> str:
        """An initializer."""
        self._named += 1
        name = f"constant_{self._named}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    # -- convolutions ----------------------------------------------------------------------------------

    def plain(
        self,
        x: Wire,
        channels: int,
        size: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        gain: float = _GAIN,
        bias: float = 0.0,
    ) -> Wire:
        """A convolution with bias, padded so that stride 1 keeps the size."""
        fan_in = x.channels // groups * size * size
        shape = (channels, x.channels // groups, size, size)
        weight = (self._random.standard_normal(shape) * gain / math.sqrt(fan_in)).astype(np.float32)
        inputs = [x.name, self.constant(weight), self.constant(np.full(channels, bias, np.float32))]
        (name,) = self.node(
            "Conv", inputs, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4, group=groups
        )
        return Wire(name, channels)

    def conv(self, x: Wire, channels: int, size: int = 1, stride: int = 1, *, groups: int = 1) -> Wire:
        """A convolution (its batch norm folded in) and SiLU, as exporters write it: x * sigmoid(x)."""
        y = self.plain(x, channels, size, stride, groups=groups)
        return Wire(self.node("Mul", [y.name, *self.node("Sigmoid", [y.name])])[0], channels)

    # -- plumbing --------------------------------------------------------------------------------------

    def add(self, x: Wire, y: Wire) -> Wire:
        return Wire(self.node("Add", [x.name, y.name])[0], x.channels)

    def concat(self, *parts: Wire) -> Wire:
        """Side by side, along the channels."""
        (name,) = self.node("Concat", [part.name for part in parts], axis=1)
        return Wire(name, sum(part.channels for part in parts))

    def split(self, x: Wire, *channels: int) -> list[Wire]:
        """The channels in parts."""
        sizes = self.constant(np.array(channels, np.int64))
        names = self.node("Split", [x.name, sizes], len(channels), axis=1)
        return [Wire(name, count) for name, count in zip(names, channels, strict=True)]

    def doubled(self, x: Wire) -> Wire:
        """Twice the size, nearest neighbour."""
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return Wire(self.node("Resize", [x.name, "", scales], mode="nearest")[0], x.channels)

    def pooled(self, x: Wire, size: int = 5) -> Wire:
        """The maximum of the neighbourhood, at the same size."""
        pads = [size // 2] * 4
        (name,) = self.node("MaxPool", [x.name], kernel_shape=[size] * 2, strides=[1, 1], pads=pads)
        return Wire(name, x.channels)

    def reshaped(self, name: str, *shape: int) -> str:
        """0 keeps a dimension, -1 takes what is left; the first is always the batch."""
        return self.node("Reshape", [name, self.constant(np.array(shape, np.int64))])[0]

    def transposed(self, name: str, *order: int) -> str:
        return self.node("Transpose", [name], perm=list(order))[0]

    def sliced(self, name: str, start: int, stop: int, axis: int) -> str:
        """From `start` up to `stop` of one axis."""
        ends = [self.constant(np.array([value], np.int64)) for value in (start, stop, axis)]
        return self.node("Slice", [name, *ends])[0]

    # -- the end ---------------------------------------------------------------------------------------

    def model(
        self,
        image: tuple[str, int, Sequence[int | str]],
        output: tuple[str, Sequence[int | str]],
        metadata: Mapping[str, object],
    ) -> onnx.ModelProto:
        """The whole model. image: name, element type and shape of the input; output: the tensor and its shape.

        Raises onnx's ValidationError for a graph that is none.
        """
        tensor, shape = output
        self._nodes.append(helper.make_node("Identity", [tensor], ["output0"]))
        graph = helper.make_graph(
            self._nodes,
            "random_weights",
            [helper.make_tensor_value_info(image[0], image[1], list(image[2]))],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(shape))],
            self._weights,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        texts = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()
        }
        helper.set_model_props(model, texts)
        onnx.checker.check_model(model)
        return model
