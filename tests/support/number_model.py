"""A tiny ONNX detector that reads the number drawn into a picture of `tests.support.clips`.

Its "objects" are the lit cells: class `bitN` stands for 2**N. A cell whose two rows do not differ gives the
class `unreadable`. So the objects of a result say which picture was inferred.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CELLS = 16
WIDTH, HEIGHT = 128, 64
LABELS = [f"bit{CELLS - 1 - cell}" for cell in range(CELLS)] + ["unreadable"]
_CONTRAST = 60


def make_number_model(
    path: Path,
    *,
    burn: int = 0,
    batch: int | str = "n",
    most_bits: int | None = None,
    hangs_above: int | None = None,
    floats: bool = False,
) -> Path:
    """Write the model: uint8 [n, 3, 64, 128] in, [n, 32, 6] out (boxes, score, class), stretched input.

    burn: how many products of 256 x 256 matrices each picture costs besides, about a millisecond each.
    most_bits: the model fails at a picture whose number has more bits set than this.
    hangs_above: the model never returns from a picture whose number has more bits set than this; -1: from any.
    floats: the input is float32, from 0 to 1.
    """
    cells = np.arange(CELLS, dtype=np.float32)
    boxes = np.stack([cells * 8, cells * 0, cells * 8 + 8, cells * 0 + 28], axis=1)
    classes = np.concatenate([cells, np.full(CELLS, CELLS, np.float32)])[None, :, None]
    constants: dict[str, np.ndarray] = {
        "upper_row": np.array(HEIGHT * 7 // 32),
        "lower_row": np.array(HEIGHT * 21 // 32),
        "columns": ((cells + 0.5) * WIDTH / CELLS).astype(np.int64),
        "zero": np.float32(0),
        "contrast": np.float32(_CONTRAST),
        "sure": np.float32(0.9),
        "boxes": np.concatenate([boxes, boxes])[None].astype(np.float32),
        "classes": classes,
        "one": np.array([2], np.int64),
        **({"whole": np.float32(255)} if floats else {}),
    }
    nodes = [
        *(
            [helper.make_node("Mul", ["images", "whole"], ["float"])]
            if floats
            else [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)]
        ),
        helper.make_node("ReduceMean", ["float"], ["grey"], axes=[1], keepdims=0),
        *(
            node
            for name in ("upper", "lower")
            for node in (
                helper.make_node("Gather", ["grey", f"{name}_row"], [f"{name}_line"], axis=1),
                helper.make_node("Gather", [f"{name}_line", "columns"], [name], axis=1),
            )
        ),
        helper.make_node("Sub", ["upper", "lower"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["strength"]),
        helper.make_node("Greater", ["difference", "contrast"], ["lit"]),
        helper.make_node("Less", ["strength", "contrast"], ["unreadable"]),
        helper.make_node("Concat", ["lit", "unreadable"], ["seen"], axis=1),
        helper.make_node("Cast", ["seen"], ["seen_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["seen_float", "sure"], ["score_row"]),
    ]
    scores = "score_row"
    if burn:
        nodes += _burning(burn, constants)
        nodes.append(helper.make_node("Add", ["score_row", "smoke"], ["score_smoked"]))
        scores = "score_smoked"
    if most_bits is not None or hangs_above is not None:
        constants["cells_axis"] = np.array([1], np.int64)
        nodes += [
            helper.make_node("Cast", ["lit"], ["lit_whole"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["lit_whole", "cells_axis"], ["bits"], keepdims=1),
        ]
    if hangs_above is not None:
        nodes += _hanging(hangs_above, constants, scores)
        scores = "score_hung"
    if most_bits is not None:
        constants["shelf"] = np.zeros(most_bits + 1, np.float32)
        nodes += [
            helper.make_node("Gather", ["shelf", "bits"], ["trap"], axis=0),
            helper.make_node("Add", [scores, "trap"], ["score_trapped"]),
        ]
        scores = "score_trapped"
    nodes += [
        helper.make_node("Unsqueeze", [scores, "one"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["nought"]),
        helper.make_node("Add", ["boxes", "nought"], ["box_rows"]),
        helper.make_node("Add", ["classes", "nought"], ["class_rows"]),
        helper.make_node("Concat", ["box_rows", "scores", "class_rows"], ["output0"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "number",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.FLOAT if floats else TensorProto.UINT8, [batch, 3, HEIGHT, WIDTH]
            )
        ],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 2 * CELLS, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    scale = 1 / 255 if floats else 1
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    contract = {"order": "rgb", "scale": scale, **plain, "fit": "stretch", "fill": 0}
    helper.set_model_props(
        model,
        {
            "streamd.head": "end2end",
            "streamd.input": json.dumps(contract),
            "names": json.dumps(dict(enumerate(LABELS))),
        },
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _burning(burn: int, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Products that depend on the picture, so that they can not be folded away, and come to nothing."""
    constants["fuel"] = np.full((256, 256), 1 / 256, np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["float"], ["spark"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["fuel", "spark"], ["burn0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"burn{i}", "fuel"], [f"burn{i + 1}"]) for i in range(burn)]
    return [
        *nodes,
        helper.make_node("ReduceMean", [f"burn{burn}"], ["ash"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["ash", "zero"], ["smoke"]),
    ]


def _hanging(above: int, constants: dict[str, np.ndarray], scores: str) -> list[onnx.NodeProto]:
    """A loop that turns not once, or some 10**15 times; it comes to nothing."""
    constants["patience"] = np.array(above, np.int64)
    constants["ages"] = np.array(10**15, np.int64)
    constants["nothing"] = np.float32(0)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still_go_on"]),
            helper.make_node("Mul", ["idle", "idle"], ["idler"]),
        ],
        "idling",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("idle", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still_go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("idler", TensorProto.FLOAT, []),
        ],
    )
    return [
        helper.make_node("ReduceMax", ["bits"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "patience"], ["hangs"]),
        helper.make_node("Cast", ["hangs"], ["hangs_whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["hangs_whole", "ages"], ["turns"]),
        helper.make_node("Loop", ["turns", "", "nothing"], ["idled"], body=body),
        helper.make_node("Add", [scores, "idled"], ["score_hung"]),
    ]


def number_of(objects: Iterable[Mapping[str, Any]]) -> int | None:
    """The number that the objects of a result stand for; None when a cell was unreadable."""
    names = [item["class"] for item in objects]
    if "unreadable" in names:
        return None
    return sum(1 << int(name.removeprefix("bit")) for name in names)
