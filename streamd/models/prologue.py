"""Joins scale, mean and std to a model as nodes, so that the picture travels as bytes: a quarter of the memory.

    picture uint8 ─► Cast float32 ─► Mul scale/std ─► Add -mean/std ─► (Cast float16) ─► the model's own input

Order of channels and layout stay the model's: the decoder writes either at the same price. The other module
beside `graph` that imports onnx, and only when a session is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, helper, numpy_helper

from streamd.models.contract import Array, Graph, InputContract, Tensor

FORMAT = 1
"""Counts the ways in which the nodes were ever made: engines built from another one are not these."""
_OLDEST_OPSET = 7
"""Since then operators broadcast by themselves."""


class PrologueError(Exception):
    """The model cannot be given a uint8 input; the message says why."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A model that takes bytes. `content` is the file to load; its external weights lie where the model's do."""

    content: bytes
    graph: Graph
    key: str
    """What was joined, for the key of an engine that is built from it."""


def join(path: Path, graph: Graph, contract: InputContract) -> Joined:
    """The model at `path` with a uint8 input of the picture's own layout; weights beside it stay there.

    What the model then sees is float32(pixel) * float32(scale / std) + float32(-mean / std), each step rounded: bit
    for bit what the letterbox writes into slots of [n, H, W, 3], and into those of [n, 3, H, W] where mean is 0.
    With a mean OpenCV rounds both steps at once there, and takes gain and shift from the plane's extremes: the
    values differ by at most two units in the last place of the larger term. The border, which the letterbox takes
    from a table, differs by one at most.

    Raises PrologueError.
    """
    shape = graph.input
    if shape.dtype == np.uint8:
        raise PrologueError("its picture input is uint8 already")
    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise PrologueError(f"the file cannot be read again: {error}") from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        raise PrologueError(f"it is written in operator set {opset}, older than {_OLDEST_OPSET}")
    if any(output.name == shape.name for output in model.graph.output):
        raise PrologueError("its picture input is an output as well")
    declared = next((value for value in model.graph.input if value.name == shape.name), None)
    if declared is None:
        raise PrologueError("the file was exchanged meanwhile")
    name = _unused(f"{shape.name}_uint8", model.graph)
    declared.name = name
    declared.type.tensor_type.elem_type = TensorProto.UINT8
    nodes = [*_nodes(name, graph, contract), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    try:
        content = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise PrologueError(f"the joined model cannot be written: {error}") from error
    inputs = tuple(
        Tensor(name, "uint8", tensor.shape) if tensor.name == shape.name else tensor
        for tensor in graph.inputs
    )
    bytes_shape = dataclasses.replace(shape, name=name, dtype=np.dtype(np.uint8))
    joined = dataclasses.replace(graph, inputs=inputs, input=bytes_shape)
    key = f"uint8/{FORMAT} scale {contract.scale!r} mean {contract.mean!r} std {contract.std!r}"
    return Joined(content, joined, key)


def _nodes(name: str, graph: Graph, contract: InputContract) -> Iterator[onnx.NodeProto]:
    """From the uint8 input `name` to a tensor of the name that the model reads."""
    shape = graph.input
    gain, shift = contract.gain_and_shift()
    steps: list[tuple[str, Array | None]] = [("Cast", None)]
    if np.any(gain != 1):
        steps.append(("Mul", gain))
    if np.any(shift != 0):
        steps.append(("Add", shift))
    if shape.dtype == np.float16:
        steps.append(("Cast", None))
    source = name
    for number, (operator, constant) in enumerate(steps):
        last = number == len(steps) - 1
        target = shape.name if last else f"{name}/{number}"
        if constant is None:
            to = TensorProto.FLOAT16 if number and shape.dtype == np.float16 else TensorProto.FLOAT
            yield helper.make_node(operator, [source], [target], name=f"{name}/{operator}{number}", to=to)
        else:
            # A node, not an initializer: those of old files must be listed among the inputs as well.
            value = f"{name}/{operator}{number}/by"
            tensor = numpy_helper.from_array(_per_channel(constant, shape.channels_first), value)
            yield helper.make_node("Constant", [], [value], name=value, value=tensor)
            yield helper.make_node(operator, [source, value], [target], name=f"{name}/{operator}{number}")
        source = target


def _per_channel(values: Array, channels_first: bool) -> Array:
    """One number where the channels agree, else shaped to broadcast over [n, 3, H, W] or [n, H, W, 3]."""
    if np.all(values == values[0]):
        return values[:1]
    return values.reshape((1, 3, 1, 1) if channels_first else (1, 1, 1, 3))


def _unused(name: str, graph: onnx.GraphProto) -> str:
    taken = set(_names(graph.input)) | set(_names(graph.initializer))
    taken |= {output for node in graph.node for output in node.output}
    while name in taken or any(other.startswith(f"{name}/") for other in taken):
        name += "_"
    return name


def _names(values: Sequence[onnx.ValueInfoProto] | Sequence[onnx.TensorProto]) -> Iterator[str]:
    return (value.name for value in values)
