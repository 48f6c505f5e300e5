"""Writes the trained detector as ONNX, and says in the file what it is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tools.demo.detector import Detector
from tools.demo.pictures import INPUT


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
    proto = onnx.load(str(path))
    proto.ir_version = min(proto.ir_version, 10)
    proto.producer_name, proto.producer_version = "streamd", ""
    proto.graph.name = "streamd-demo"
    for node in proto.graph.node:
        node.doc_string = ""
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
