"""Models that are known and not done: refused by name, so that nobody gets their outputs read as boxes."""

from __future__ import annotations

from streamd.models.contract import Graph, Tensor
from streamd.models.metadata import class_names

_TASKS = {
    "pose": "a pose model",
    "segment": "a segmentation model",
    "semantic": "a segmentation model",
    "obb": "a model of oriented boxes",
    "classify": "a classifier",
    "depth": "a depth model",
}
_POSE_CHANNELS = 4 + 1 + 17 * 3
_MASK_COEFFICIENTS = 32
_SOFTMAX_QUERIES = 100


def by_metadata(graph: Graph) -> str | None:
    """What the model says that it is, when that is no detector; also when the user sets a head."""
    task = graph.metadata.get("task", "").strip().lower()
    if task in _TASKS:
        return f"{_TASKS[task]} (metadata: task {task})"
    if graph.metadata.get("kpt_shape"):
        return f"a pose model (metadata: kpt_shape {graph.metadata['kpt_shape'][:40]})"
    return None


def by_outputs(graph: Graph) -> str | None:
    """What its outputs look like, when that is no detector."""
    flat = [tensor for tensor in graph.outputs if len(tensor.shape) == 3]
    maps = [tensor for tensor in graph.outputs if len(tensor.shape) == 4]
    if flat and maps:
        return f"a segmentation model (output {maps[0].name} holds masks or their prototypes)"
    if len(graph.outputs) == 1:
        return _by_single_output(graph, graph.outputs[0])
    if any(tensor.shape[1:2] == (_SOFTMAX_QUERIES,) and "logits" in tensor.name for tensor in flat):
        return "a DETR with softmax scores (100 queries); RT-DETR, RF-DETR, D-FINE and DEIM are read"
    return None


def _by_single_output(graph: Graph, output: Tensor) -> str | None:
    shape = output.shape
    if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)):
        return f"a classifier (output {output.name} gives one row of scores a picture)"
    if len(shape) == 4 and shape[2:] == (graph.input.height, graph.input.width):
        return f"a segmentation model (output {output.name} is as large as the picture)"
    names = class_names(graph.metadata) or ()
    if len(shape) == 3 and shape[1] == _POSE_CHANNELS and len(names) != _POSE_CHANNELS - 4:
        return f"a pose model (output {output.name}: {_POSE_CHANNELS} channels, as a box, a score, 17 points)"
    if len(shape) == 3 and names and shape[1] == 4 + len(names) + _MASK_COEFFICIENTS:
        return (
            f"a segmentation model (output {output.name}: {_MASK_COEFFICIENTS} channels beyond its classes)"
        )
    return None
