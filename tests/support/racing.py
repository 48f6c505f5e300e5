"""What the races share: a run through the path, what stands in a source's and a letterbox's place, sides in turns."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamd.benchmark.passes import Writing
from streamd.core.picture import Picture
from streamd.models.contract import Array, Placement
from streamd.models.detector import Detector
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.pipeline.slots import ModelInput
from streamd.service.configured import letterbox
from streamd.service.offline import OfflineRun, Span
from streamd.sources import Source


def options(runs: int | None, batch: int = 8) -> RuntimeOptions:
    return RuntimeOptions(("cpu",), True, "fp32", 0, Path(), batch, cpu_runs=runs)


def offline(detector: Detector, clip: Path, frames: int | None = None) -> OfflineRun:
    """A run over the clip that makes each result's line and keeps nothing."""
    return OfflineRun(
        detector, rules_for(detector.labels), [Writing()], Span(max_frames=frames), threading.Event()
    )


def in_turns(sides: dict[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """So many figures of each side; who begins, changes each time."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for pair in range(pairs):
        for name in list(sides) if pair % 2 == 0 else reversed(list(sides)):
            found[name].append(sides[name]())
    return found


def summary(figures: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(figures), 3),
        "least": round(min(figures), 3),
        "most": round(max(figures), 3),
    }


def ratio(found: dict[str, list[float]], one: str, other: str) -> dict[str, float]:
    return summary([a / b for a, b in zip(found[one], found[other], strict=True)])


class Still:
    """A source of one picture, again and again, in the place of an opened file."""

    def __init__(self, inner: Source, picture: Picture, frames: int) -> None:
        self._inner, self._picture, self._frames = inner, picture, frames

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pictures(self) -> Iterator[Picture]:
        for number in range(self._frames):
            yield replace(self._picture, pts=number / 25, received_ns=time.monotonic_ns())

    def __enter__(self) -> Still:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()


class AsItLies:
    """In the place of the letterbox: the input is taken as it is, as if its pixels were those of the picture."""

    def __init__(self, target: ModelInput) -> None:
        self._letterbox = letterbox(target)

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement:
        return self._letterbox.place(picture.width, picture.height, picture.sar)
