"""Writes the trained detector as ONNX, and says in the file what it is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tools.demo.detector import STRIDES, Detector
from tools.demo.pictures import INPUT
from tools.demo.scene import CLASSES


def fused(model: Detector) -> Detector:
    """Return a copy for inference: batch norm folded into the convolutions, scores 0..1.

    The copy takes pixels 0..255: the division by 255 is folded into the first weights.
    """
    copied = copy.deepcopy(model).eval()
    for module in list(copied.modules()):
        if not isinstance(module, nn.Sequential) or len(module) != 3:
            continue
        conv, norm = module[0], module[1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(conv, norm)
            module[1] = nn.Identity()
    first = next(m for m in copied.modules() if isinstance(m, nn.Conv2d))
    first.weight.data /= 255.0
    copied.scores_squashed = True
    return copied


def tidy(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Give the graph fixed reshapes and output sizes, and the file its metadata."""
    cells = sum((INPUT[0] // stride) * (INPUT[1] // stride) for stride in STRIDES)
    columns = 5 + len(CLASSES)
    # The exporter computes the shape of each flattened grid from the input; only the batch is free.
    flat = onnx.numpy_helper.from_array(np.array([0, columns, -1], np.int64), "flat_grid")
    if flat.name not in {known.name for known in proto.graph.initializer}:
        proto.graph.initializer.append(flat)
    for node in proto.graph.node:
        node.doc_string = ""
        if node.op_type == "Reshape":
            node.input[1] = flat.name
    while True:
        used = {name for node in proto.graph.node for name in node.input}
        used |= {output.name for output in proto.graph.output}
        dead = [node for node in proto.graph.node if not used.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            proto.graph.node.remove(node)
    for dimension, size in zip(
        proto.graph.output[0].type.tensor_type.shape.dim[1:], (cells, columns), strict=True
    ):
        dimension.dim_value = size
    proto.ir_version = min(proto.ir_version, 10)
    proto.producer_name, proto.producer_version = "streamd", ""
    proto.graph.name = "streamd-demo"
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write_onnx(model: Detector, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the detector with a free batch dimension, opset 17, weights inside."""
    example = torch.zeros(1, 3, *INPUT)
    with warnings.catch_warnings(), torch.no_grad():
        # The graph has no control flow: the older exporter needs no further package.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            fused(model), (example,), str(path), dynamo=False, opset_version=17, do_constant_folding=True,
            input_names=["images"], output_names=["output"],
            dynamic_axes={"images": {0: "batch"}, "output": {0: "batch"}},
        )  # fmt: skip
    onnx.save(tidy(onnx.load(str(path)), metadata), str(path))
