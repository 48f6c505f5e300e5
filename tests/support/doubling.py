"""A tiny model that gives twice its picture, and the picture itself; and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from streamd.models.contract import Graph, InputShape, Tensor
from streamd.models.session import RuntimeOptions


def graph(batch: int | None, *further: Tensor) -> Graph:
    shape = InputShape("images", 8, 8, True, np.dtype(np.float32), batch)
    picture = Tensor("images", "float32", (batch or "n", 3, 8, 8))
    outputs = (Tensor("double", "float32", (None,)), Tensor("plain", "float32", (None,)))
    return Graph((picture, *further), outputs, {}, shape)


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], batch: int | None, *further: onnx.ValueInfoProto
) -> Path:
    """A model with outputs in another order than its graph's, whose last is the picture itself."""
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch or "n", 3, 8, 8])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("double", "plain")]
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("fixed", TensorProto.INT64, [4], [1, 3, 8, 8]),
        helper.make_tensor("nine", TensorProto.INT64, [1], [9]),
    ]
    made = helper.make_graph(nodes, "g", [picture, *further], outputs, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


PLAIN = helper.make_node("Identity", ["images"], ["plain"])
GOOD = [helper.make_node("Mul", ["images", "two"], ["double"]), PLAIN]
ONLY_ONE = [
    helper.make_node("Reshape", ["images", "fixed"], ["flat"]),
    helper.make_node("Mul", ["flat", "two"], ["double"]),
    PLAIN,
]
NEVER = [helper.make_node("Gather", ["images", "nine"], ["double"], axis=1), PLAIN]


def options(
    *providers: str, fallback: bool = True, batch_limit: int = 4, cache: Path = Path("/nowhere")
) -> RuntimeOptions:
    return RuntimeOptions(  # type: ignore[arg-type]
        providers, fallback, "fp16", 0, cache, batch_limit, cpu_runs=None, cpu_batch_limit=batch_limit
    )
