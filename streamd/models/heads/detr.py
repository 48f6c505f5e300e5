"""The DETR family, in three layouts, none of which needs suppression.

Deployed (RT-DETR, D-FINE, DEIM): labels [n, k], boxes [n, k, 4] and scores [n, k]. Boxes are corners in
pixels of the size that is fed with the picture; streamd feeds the input's own size, so that they are input
pixels like every head's. Raw (RT-DETR, RF-DETR): logits [n, q, classes] and boxes [n, q, 4] as relative
centre and size. Joined (Ultralytics' RT-DETR): such boxes and scores side by side, [n, q, 4 + classes].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamd.core.errors import ModelError
from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head, Tensor
from streamd.models.heads import rows
from streamd.models.metadata import class_names, is_rtdetr, is_ultralytics
from streamd.models.picture_input import is_target_size
from streamd.models.presets import PRESETS

_LOGIT_NAMES = ("logits", "pred_logits", "labels")
_BOX_NAMES = ("boxes", "pred_boxes", "dets")
_SOFTMAX_QUERIES = 100
_FARTHEST = 8.0


@dataclass(slots=True)
class DeployedDetr:
    """`labels`, `boxes`, `scores` are numbers of outputs, which do not tell how many classes there are."""

    labels: int
    boxes: int
    scores: int
    classes: int | None = None
    nms: bool = False

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        found = self.decode_batch([output[row : row + 1] for output in outputs], 1, floors)
        found.pictures = None
        return found

    def decode_batch(self, outputs: Sequence[Array], pictures: int, floors: Floats) -> Candidates:
        """See `BatchHead.decode_batch`."""
        table = rows.as_declared(outputs[self.scores], (None,), "scores")
        queries = table.shape[1]
        scores = rows.floats(table[:pictures].reshape(-1))
        labels = rows.as_declared(outputs[self.labels], (queries,), "labels")
        boxes = rows.as_declared(outputs[self.boxes], (queries, 4), "boxes")
        class_ids = rows.whole(labels[:pictures].reshape(-1))
        kept = rows.reaching(scores, class_ids, floors)
        found = rows.floats(boxes[:pictures].reshape(-1, 4)[kept])
        return rows.candidates(found, scores[kept], class_ids[kept], pictures=kept // max(queries, 1))


@dataclass(slots=True)
class RawDetr:
    """Sigmoid over queries and classes; the best pairs count, so a query may speak for two classes.

    side float32 [2]: the input's width and height in pixels.
    """

    logits: int
    boxes: int
    classes: int | None
    queries: int | None
    side: Floats
    nms: bool = False

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`; as many pairs as there are queries at the most."""
        logits = rows.floats(
            rows.picture_row(outputs[self.logits], row, (self.queries, len(floors)), "logits")
        )
        places = rows.picture_row(outputs[self.boxes], row, (len(logits), 4), "boxes")
        scores = rows.sigmoid(logits)
        queries, class_ids = np.nonzero(scores >= floors)
        best = np.argsort(-scores[queries, class_ids], kind="stable")[: len(logits)]
        queries, class_ids = queries[best], class_ids[best]
        boxes = _pixels(rows.floats(places[queries]), self.side)
        return rows.candidates(boxes, scores[queries, class_ids], class_ids.astype(np.int64))


@dataclass(slots=True)
class JoinedDetr:
    """The best class of each query; side float32 [2]: the input's width and height in pixels."""

    output: str
    classes: int | None
    queries: int | None
    side: Floats
    nms: bool = False

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        raw = rows.picture_row(outputs[0], row, (self.queries, 4 + len(floors)), self.output)
        picked, scores, class_ids = rows.best_classes(raw[:, 4:], floors)
        return rows.candidates(_pixels(rows.floats(raw[picked, :4]), self.side), scores, class_ids)


def _pixels(places: Floats, side: Floats) -> Floats:
    """Corners in input pixels from relative centres and sizes [n, 4]; ModelError when these are pixels."""
    with np.errstate(all="ignore"):
        if rows.typical(places[:, :2]) > _FARTHEST:
            raise ModelError(
                "the model's boxes are pixels, not relative as head detr reads them; set another head"
            )
        return rows.corners(places[:, :2] * side, places[:, 2:] * side)


def recognise(graph: Graph) -> str | None:
    """By the names of its outputs; deployed, also by the input for the target size; joined, by metadata."""
    if _deployed(graph):
        return "outputs labels, boxes, scores, and an input for the size of the boxes"
    if _joined(graph):
        return "Ultralytics' metadata, and a box and the scores of all classes per query"
    raw = _raw(graph)
    if raw is None:
        return None
    logits, boxes = (graph.outputs[index] for index in raw)
    if logits.name.lower() not in _LOGIT_NAMES or boxes.name.lower() not in _BOX_NAMES:
        return None
    if logits.shape[1] == _SOFTMAX_QUERIES:
        return None  # the first DETR: softmax, and a class for "no object"
    return f"outputs {logits.name} and {boxes.name} by name"


def build(graph: Graph) -> Head:
    """Raises ModelError when the outputs have none of the layouts."""
    side = np.array([graph.input.width, graph.input.height], np.float32)
    joined = _joined(graph)
    if joined:
        return JoinedDetr(
            joined.name, rows.count(joined.shape[2]) - 4, rows.count(joined.shape[1]) or None, side
        )
    deployed = _deployed(graph)
    if deployed:
        return DeployedDetr(*deployed)
    raw = _raw(graph)
    if raw is None:
        wants = (
            "labels, boxes, scores and an input for the boxes' size, or logits and relative boxes [n, q, 4]"
        )
        raise rows.refuse(graph, "detr", wants)
    logits, boxes = raw
    shape = graph.outputs[logits].shape
    return RawDetr(logits, boxes, rows.count(shape[2]), rows.count(shape[1]) or None, side)


def _deployed(graph: Graph) -> tuple[int, int, int] | None:
    """Numbers of labels, boxes, scores; the pixels of boxes are known only where a target size is fed."""
    index = {tensor.name.lower(): number for number, tensor in enumerate(graph.outputs)}
    if set(index) != {"labels", "boxes", "scores"} or not any(map(is_target_size, graph.inputs)):
        return None
    labels, boxes, scores = index["labels"], index["boxes"], index["scores"]
    dimensions = [len(graph.outputs[number].shape) for number in (labels, boxes, scores)]
    if dimensions != [2, 3, 2] or graph.outputs[boxes].shape[2] not in (4, None):
        return None
    return labels, boxes, scores


def _joined(graph: Graph) -> Tensor | None:
    """Only with the names of the classes: without them the columns could be anything."""
    output = rows.only(graph.outputs, 3)
    names = class_names(graph.metadata)
    if output is None or not names or output.shape[2] != 4 + len(names):
        return None
    if not is_rtdetr(graph.metadata) and (len(names) == 2 or not is_ultralytics(graph.metadata)):
        return None  # two classes have the 6 columns of `end2end`
    return None if rows.levels_of(output.shape[1], graph.input) else output


def _raw(graph: Graph) -> tuple[int, int] | None:
    """Numbers of logits and boxes; other outputs must not be there (a third holds masks)."""
    if len(graph.outputs) != 2 or any(len(tensor.shape) != 3 for tensor in graph.outputs):
        return None
    order = sorted((0, 1), key=lambda index: graph.outputs[index].name.lower() not in _BOX_NAMES)
    for boxes, logits in (order, order[::-1]):
        place, logit = graph.outputs[boxes], graph.outputs[logits]
        if place.shape[2] == 4 and rows.count(logit.shape[2]) > 0 and place.shape[1] == logit.shape[1]:
            return logits, boxes
    return None


FAMILY = Family("detr", PRESETS["detr"], recognise, build)
