"""YOLOv10, YOLO26, suppression inside: [n, k, 6] of x1, y1, x2, y2 (input pixels), score, class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamd.models.contract import Array, Candidates, Family, Floats, Graph, Head
from streamd.models.heads import rows
from streamd.models.metadata import is_rtdetr, is_ultralytics
from streamd.models.presets import PRESETS

_MOST_ROWS = 1000


@dataclass(slots=True)
class End2End:
    """Only filters by score. The outputs carry class numbers and do not tell how many classes there are."""

    output: str
    lines: int | None
    classes: int | None = None
    nms: bool = False

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """See `Head.decode`."""
        found = self.decode_batch([outputs[0][row : row + 1]], 1, floors)
        found.pictures = None
        return found

    def decode_batch(self, outputs: Sequence[Array], pictures: int, floors: Floats) -> Candidates:
        """See `BatchHead.decode_batch`."""
        raw = rows.as_declared(outputs[0], (self.lines, 6), self.output)[:pictures]
        table = raw.reshape(-1, 6)
        lines = (table[:, 4] >= floors.min()).nonzero()[0]
        few = rows.floats(table.take(lines, axis=0))
        scores, class_ids = few[:, 4], rows.whole(few[:, 5])
        kept = rows.reaching(scores, class_ids, floors)
        of = lines[kept] // max(raw.shape[1], 1)
        return rows.candidates(few[kept, :4], scores[kept], class_ids[kept], pictures=of)


def recognise(graph: Graph) -> str | None:
    """By 6 columns in rows that are no grid: YOLOX or YOLOv5 with one class has 6 too, and a row per cell."""
    output = rows.only(graph.outputs, 3)
    if output is None or output.shape[2] != 6 or is_rtdetr(graph.metadata):
        return None
    lines = rows.count(output.shape[1])
    if is_ultralytics(graph.metadata) and graph.metadata.get("end2end", "").lower() == "true":
        return "Ultralytics' metadata (end2end)"
    if (
        not 1 <= lines <= _MOST_ROWS
        or rows.levels_of(lines, graph.input)
        or rows.levels_of(lines, graph.input, 3)
    ):
        return None
    return f"one output of {lines} rows with 6 columns, which are no grid of the input"


def build(graph: Graph) -> Head:
    """Raises ModelError when there is no single output [n, k, 6]."""
    output = rows.only(graph.outputs, 3)
    if output is None or output.shape[2] != 6:
        raise rows.refuse(graph, "end2end", "one output [n, k, 6]")
    if rows.levels_of(output.shape[1], graph.input):
        raise rows.refuse(
            graph, "end2end", "k rows that are no grid of the input (this is YOLOX with one class)"
        )
    return End2End(output.name, rows.count(output.shape[1]) or None)


FAMILY = Family("end2end", PRESETS["ultralytics"], recognise, build)
