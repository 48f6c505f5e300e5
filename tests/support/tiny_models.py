"""ONNX models of a few operators that give planted outputs, whatever picture they see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamd.models.contract import Array

_ELEMENT = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


@dataclass
class Tiny:
    """A model to write. `batch`, `height` and `width` are numbers, or names for symbolic dimensions."""

    outputs: Mapping[str, Array]
    """By name: what every picture of a batch gets, without the batch dimension."""
    batch: int | str = "n"
    height: int | str = 64
    width: int | str = 96
    channels_first: bool = True
    dtype: str = "float32"
    input_name: str = "images"
    target_sizes: bool = False
    """Whether there is an input orig_target_sizes, by which the output `boxes` is multiplied."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    declare: bool = True
    """Whether the outputs' dimensions stand in the file; else they are all symbolic."""

    def proto(self) -> onnx.ModelProto:
        """Each output is a constant plus 0 * the mean of each picture, so that it follows the batch."""
        shape = [self.batch, 3, self.height, self.width]
        if not self.channels_first:
            shape = [self.batch, self.height, self.width, 3]
        inputs = [helper.make_tensor_value_info(self.input_name, _ELEMENT[self.dtype], shape)]
        nodes = [
            helper.make_node("Cast", [self.input_name], ["picture"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["picture", "nought"], ["dark"]),
            helper.make_node("ReduceMean", ["dark"], ["mean"], axes=[1, 2, 3], keepdims=0),
        ]
        constants = [numpy_helper.from_array(np.float32(0), "nought")]
        if self.target_sizes:
            inputs.append(
                helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [self.batch, 2])
            )
            nodes += [
                helper.make_node("Concat", ["orig_target_sizes"] * 2, ["corners"], axis=1),
                helper.make_node("Cast", ["corners"], ["corners_float"], to=TensorProto.FLOAT),
                helper.make_node("Unsqueeze", ["corners_float"], ["sides"], axes=[1]),
            ]
        results = []
        for name, planted in self.outputs.items():
            constants.append(numpy_helper.from_array(planted[None], f"planted_{name}"))
            element = helper.np_dtype_to_tensor_dtype(planted.dtype)
            nodes += [
                helper.make_node(
                    "Unsqueeze", ["mean"], [f"lifted_{name}"], axes=list(range(1, planted.ndim + 1))
                ),
                helper.make_node("Cast", [f"lifted_{name}"], [f"cast_{name}"], to=element),
            ]
            scaled = self.target_sizes and name == "boxes"
            sum_name = "relative_boxes" if scaled else name
            nodes.append(helper.make_node("Add", [f"planted_{name}", f"cast_{name}"], [sum_name]))
            if scaled:
                nodes.append(helper.make_node("Mul", [sum_name, "sides"], [name]))
            dims: list[int | str] = [self.batch, *planted.shape]
            if not self.declare:
                dims = [f"{name}_dim_{axis}" for axis in range(planted.ndim + 1)]
            results.append(helper.make_tensor_value_info(name, element, dims))
        graph = helper.make_graph(nodes, "tiny", inputs, results, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
        for key, value in self.metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        return model

    def write(self, path: Path) -> Path:
        """Saves it at `path`, or as model.onnx in it when it is a folder."""
        file = path / "model.onnx" if path.is_dir() else path
        onnx.save(self.proto(), file)
        return file
