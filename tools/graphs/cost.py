"""What a graph costs, counted from its shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import shape_inference


@dataclass(frozen=True, slots=True)
class Cost:
    """parameters: numbers in the weights of convolutions. gflops: for one picture, a multiply-add counted as two."""

    parameters: int
    gflops: float


def cost_of(model: onnx.ModelProto) -> Cost:
    """Counts convolutions and matrix products; all else is less than a hundredth of them here.

    A symbolic batch counts as one picture. Raises ValueError when a shape cannot be inferred.
    """
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    parameters, pairs = 0, 0
    for node in inferred.node:
        if node.op_type == "Conv":
            weight = weights[node.input[1]]
            parameters += math.prod(weight) + sum(math.prod(weights[name]) for name in node.input[2:])
            pairs += math.prod(_shape(shapes, node.output[0])) * math.prod(weight[1:])
        elif node.op_type == "MatMul":
            pairs += math.prod(_shape(shapes, node.output[0])) * _shape(shapes, node.input[0])[-1]
    return Cost(parameters, 2 * pairs / 1e9)


def _shape(shapes: dict[str, list[int]], name: str) -> list[int]:
    if name not in shapes:
        raise ValueError(f"the shape of {name} is not known")
    return shapes[name]
