"""streamd's offline path and the usual loop on one clip, taking turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from streamd.benchmark import agreement
from streamd.benchmark.passes import Subject, Writing, measure
from streamd.benchmark.report import Comparison
from streamd.benchmark.usual import UsualLoop
from streamd.core.timing import NS_PER_S
from streamd.models.contract import Detections
from streamd.service.offline import Span
from streamd.sources.address import path_of

Turn = tuple[float, float]
"""Seconds and CPU seconds of one pass."""


def compare(
    subject: Subject, span: Span, usual: UsualLoop, pairs: int, tell: Callable[[str], None]
) -> Comparison:
    """So many pairs of passes; who begins changes with each pair. Blocks.

    Sessions are made and warm before; opening the clip is a part of both. streamd makes its JSON lines
    meanwhile, the usual loop only keeps what it saw. Raises StreamdError.
    """
    clip = Path(path_of(subject.request.url))
    found: list[Detections] = usual.run(clip, span.max_frames)
    ours_sink = Writing(keep=True)
    frames = measure(subject, span, 0, [ours_sink], once=True).frames
    objects = agreement.compare(ours_sink.kept, found, float(subject.rules.floors.min()))

    def ours_turn() -> Turn:
        cost = measure(subject, span, 0, [Writing()], once=True)
        return cost.seconds, cost.cpu_ns / NS_PER_S

    def usual_turn() -> Turn:
        started, started_cpu = time.monotonic(), time.process_time()
        usual.run(clip, span.max_frames)
        return time.monotonic() - started, time.process_time() - started_cpu

    ours: list[Turn] = []
    theirs: list[Turn] = []
    sides = [(ours, ours_turn), (theirs, usual_turn)]
    for pair in range(pairs):
        tell(f"comparing, pair {pair + 1} of {pairs}")
        for turns, turn in sides if pair % 2 == 0 else reversed(sides):
            turns.append(turn())
    ratios = [other[0] / own[0] for own, other in zip(ours, theirs, strict=True)]
    cpu_ratios = [other[1] / own[1] for own, other in zip(ours, theirs, strict=True)]
    return Comparison(
        frames=frames,
        pairs=pairs,
        ratio=round(statistics.median(ratios), 3),
        least=round(min(ratios), 3),
        most=round(max(ratios), 3),
        ratios=[round(ratio, 3) for ratio in ratios],
        cpu_ratio=round(statistics.median(cpu_ratios), 3),
        frames_per_s=round(frames / statistics.median(turn[0] for turn in ours), 2),
        usual_frames_per_s=round(len(found) / statistics.median(turn[0] for turn in theirs), 2),
        usual_provider=usual.provider,
        objects=objects,
    )
