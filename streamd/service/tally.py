"""What was seen in an offline run, counted for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamd.bus import wire
from streamd.pipeline.outbox import Result


@dataclass(slots=True)
class ClassTally:
    """One class in one input."""

    frames: int = 0
    """Frames with at least one object of the class."""
    objects: int = 0
    most: int = 0
    """The most objects in one frame."""
    best: float = 0.0
    """The highest score."""


@dataclass(slots=True)
class InputTally:
    """One input."""

    source: str
    frames: int = 0
    classes: dict[str, ClassTally] = field(default_factory=dict)
    end: wire.OfflineEnd | None = None


class Tally:
    """A sink that counts."""

    def __init__(self) -> None:
        self.inputs: list[InputTally] = []

    def begin(self, source: str, index: int) -> None:
        self.inputs.append(InputTally(source))

    def result(self, result: Result) -> None:
        tally = self.inputs[-1]
        tally.frames += 1
        seen: dict[int, list[float]] = {}
        detections = result.detections
        for class_id, score in zip(detections.class_ids.tolist(), detections.scores.tolist(), strict=True):
            seen.setdefault(class_id, []).append(score)
        for class_id, scores in seen.items():
            row = tally.classes.setdefault(result.labels[class_id], ClassTally())
            row.frames += 1
            row.objects += len(scores)
            row.most = max(row.most, len(scores))
            row.best = max(row.best, *scores)

    def end(self, end: wire.OfflineEnd) -> None:
        self.inputs[-1].end = end

    def close(self) -> None:
        pass
