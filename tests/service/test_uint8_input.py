"""The whole path with a uint8 input joined to the model: decoders write bytes, and the results stay the same."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

import streamd
from streamd.bus import wire
from streamd.models.description import describe
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.pipeline.outbox import Result
from streamd.service.offline import OfflineRun, Span
from streamd.service.start import open_detector
from streamd.sources import SourceRequest

ASSETS = Path(streamd.__file__).parent / "assets"
AS_FLOATS = RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), 4, 1, 4, frozenset())


class Kept:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.boxes: list[list[list[float]]] = []
        self.classes: list[list[int]] = []
        self.slot_types: set[str] = set()

    def begin(self, source: str, index: int) -> None:
        pass

    def result(self, result: Result) -> None:
        self.boxes.append(result.detections.boxes.tolist())
        self.classes.append(result.detections.class_ids.tolist())
        self.slot_types.add(str(result.frame.slot.pixels.dtype))

    def end(self, end: wire.OfflineEnd) -> None:
        assert end.complete, end.detail


def kept(options: RuntimeOptions) -> Kept:
    sink = Kept()
    description = describe(ASSETS / "demo.onnx")
    with open_detector(description, options) as (detector, _):
        rules = rules_for(detector.labels)
        run = OfflineRun(detector, rules, [sink], Span(max_frames=12), threading.Event())
        run.run([SourceRequest(str(ASSETS / "demo.mp4"))])
    return sink


@pytest.mark.slow
def test_the_same_objects_in_the_same_places() -> None:
    floats = kept(AS_FLOATS)
    from_bytes = kept(dataclasses.replace(AS_FLOATS, uint8_input=frozenset({"cpu"})))
    assert from_bytes.slot_types == {"uint8"}
    assert floats.slot_types == {"float32"}
    assert from_bytes.classes == floats.classes
    assert sum(map(len, floats.classes)) >= 12
    for one, other in zip(floats.boxes, from_bytes.boxes, strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)
