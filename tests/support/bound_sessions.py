"""Sessions of ONNX Runtime's on the CPU, bound to fixed memory of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from streamd.models.contract import Array, Graph
from streamd.models.memory import DeviceArray, Memory
from streamd.models.running import Session, warmed

Made = Callable[[], Memory] | None


def ort_session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def opened(path: Path, graph: Graph, made: Made, limit: int = 5, tell: Any = lambda _: None) -> Session:
    return warmed(ort_session(path), graph, limit, made, [], tell)


def pictures(graph: Graph, rows: int, seed: int) -> Array:
    values = np.random.default_rng(seed).integers(0, 256, (rows, *graph.input.picture))
    return values.astype(graph.input.dtype)


def on_device(picture: Array) -> DeviceArray:
    kept = picture.copy()
    return DeviceArray(kept.ctypes.data, kept.shape, kept.dtype, kept.copy)


def counting_model(path: Path, declared: list[int | str]) -> Path:
    """Its output has as many rows as the picture has values above 0, whatever is `declared`."""
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("found", TensorProto.INT64, declared)
    nodes = [
        helper.make_node("NonZero", ["images"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["rows", "first"], ["found"]),
    ]
    first = numpy_helper.from_array(np.array([0]), "first")
    graph = helper.make_graph(nodes, "g", [picture], [output], [first])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
