"""How results become messages."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from streamd.bus import wire
from streamd.core.timing import Stage
from streamd.models.contract import Detections
from streamd.pipeline.outbox import Result

_STEPS = np.array([100.0, 100.0, 100.0, 100.0, 10_000.0])
"""A box is told with 2 decimals, a score with 4."""
_STAGES = tuple(stage.value for stage in Stage)


def objects_of(detections: Detections, labels: Sequence[str]) -> list[wire.Object]:
    """The objects of a result: scores with 4 decimals, boxes and keypoints with 2."""
    ids = detections.class_ids.tolist()
    numbers = np.empty((len(ids), 5))
    numbers[:, :4], numbers[:, 4] = detections.boxes, detections.scores
    # As numpy's `round`, all at once.
    np.multiply(numbers, _STEPS, out=numbers)
    np.divide(np.rint(numbers, out=numbers), _STEPS, out=numbers)
    points: list[Any] = [UNSET] * len(ids)
    if detections.keypoints is not None:
        points = detections.keypoints.astype(float).round(2).tolist()
    return [
        wire.Object(class_id, labels[class_id], score, (x1, y1, x2, y2), keypoints)
        for class_id, (x1, y1, x2, y2, score), keypoints in zip(ids, numbers.tolist(), points, strict=True)
    ]


def result_message(result: Result, run: str, published_us: int) -> wire.ResultMessage:
    """The message of a result whose `encoded` is stamped."""
    frame = result.frame
    return wire.ResultMessage(
        run=run,
        stream=frame.lane.stream,
        epoch=frame.lane.epoch,
        seq=result.seq,
        frame=frame.number,
        dropped=frame.number - result.seq,
        pts=UNSET if frame.pts is None else frame.pts,
        captured_us=UNSET if frame.captured_us is None else frame.captured_us,
        received_us=frame.received_us,
        published_us=published_us,
        clock=frame.clock,
        width=frame.width,
        height=frame.height,
        sar=_sar(frame.sar),
        model=result.model,
        provider=result.provider,
        stages_ms=stages_ms(result),
        objects=objects_of(result.detections, result.labels),
    )


def offline_result(result: Result, source: str, index: int, *, timings: bool) -> wire.OfflineResult:
    """The line of a result of an offline run. Without `timings` it holds nothing that differs between runs."""
    frame = result.frame
    line = wire.OfflineResult(
        source=source,
        input=index,
        frame=frame.number,
        seq=result.seq,
        pts=UNSET if frame.pts is None else frame.pts,
        width=frame.width,
        height=frame.height,
        sar=_sar(frame.sar),
        model=result.model,
        provider=result.provider,
        objects=objects_of(result.detections, result.labels),
    )
    if timings:
        line.clock = frame.clock
        line.dropped = frame.number - result.seq
        line.received_us = frame.received_us
        line.stages_ms = stages_ms(result)
    return line


def stages_ms(result: Result) -> wire.Millis:
    """Each stage's milliseconds, 3 decimals; `encoded` is stamped."""
    durations = result.stamps.stages_ns()
    # To the nearest microsecond, without the price of `round` for each of seven.
    return {name: (max(0, ns) + 500) // 1000 / 1000 for name, ns in zip(_STAGES, durations, strict=True)}


def _sar(sar: Fraction | None) -> str | UnsetType:
    return UNSET if sar is None else f"{sar.numerator}:{sar.denominator}"
