"""Batches through a real session: what is read belongs to the picture it was read from."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from streamd.models.chain import open_session
from streamd.models.contract import Placement
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool
from streamd.pipeline.worker import Worker
from tests.support.clips import drawn
from tests.support.frames import frame_of
from tests.support.number_model import HEIGHT, LABELS, WIDTH, make_number_model

WHOLE = Placement(1.0, 1.0, 0.0, 0.0, WIDTH, HEIGHT)


def picture_of(number: int) -> np.ndarray:
    return np.ascontiguousarray(drawn(number, WIDTH, HEIGHT).transpose(2, 0, 1))


def options(batch: int) -> RuntimeOptions:
    return RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), batch, None, batch)


def number_in(names: list[str]) -> int:
    return sum(1 << int(name.removeprefix("bit")) for name in names)


@pytest.mark.parametrize("fixed", [None, 1, 4])
def test_each_row_is_read_for_its_own_picture(tmp_path: Path, fixed: int | None) -> None:
    model = describe(make_number_model(tmp_path / "m.onnx", batch=fixed or "n"))
    rules = rules_for(model.labels)
    with open_session(model.path, model.graph, options(4)) as session:
        detector = Detector(model, session, session.batch)
        assert detector.limit == (fixed or 4)
        for count in {1, 2, detector.limit}:
            if count > detector.limit:
                continue
            numbers = [1000 + 7 * i for i in range(count)]
            outputs = detector.run([picture_of(number) for number in numbers])
            for row, number in enumerate(numbers):
                seen = detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules)
                assert number_in([LABELS[int(i)] for i in seen.class_ids]) == number


def test_a_batch_over_streams_gives_each_its_own_results(tmp_path: Path) -> None:
    """The worker with real batches: pictures of several streams, rolling, none mixed up."""
    model = describe(make_number_model(tmp_path / "m.onnx"))
    rules = rules_for(model.labels)
    rings, outbox, sizes = Rings(), Outbox[None](1000), []
    target = ModelInput(model.contract, model.graph.input)
    lanes = [Lane(str(i), SlotPool(target, 64), rules, None) for i in range(5)]
    for index, lane in enumerate(lanes):
        ring = rings.add(lane, 50)
        for step in range(10 + index):
            frame = frame_of(lane)
            frame.slot.pixels[...] = picture_of(1000 * index + step)
            frame.width, frame.height, frame.placement = WIDTH, HEIGHT, WHOLE
            ring.put_newest_wins(frame)
    rings.close(drain=True)
    with open_session(model.path, model.graph, options(4)) as session:
        worker = Worker(Detector(model, session, session.batch), rings, outbox, on_batch=sizes.append)
        thread = threading.Thread(target=worker.run)
        thread.start()
        thread.join(60)
    assert max(sizes) == 4
    got: dict[str, list[int]] = {}
    for result in outbox.take(0) or []:
        assert isinstance(result, Result)
        names = [LABELS[int(i)] for i in result.detections.class_ids]
        got.setdefault(result.frame.lane.stream, []).append(number_in(names))
    assert got == {
        str(index): [1000 * index + step for step in range(10 + index)] for index in range(len(lanes))
    }
    for lane in lanes:
        assert lane.slots.in_use() == 0
        assert lane.ledger.snapshot().in_flight == 0


@pytest.mark.parametrize(("before", "after"), [(8, 3), (3, 8)])
def test_the_same_model_takes_over_with_other_batches_and_loses_no_frame(
    tmp_path: Path, before: int, after: int
) -> None:
    """A batch that was taken for the former one is larger than the next one can run."""
    model = describe(make_number_model(tmp_path / "m.onnx"))
    rings, outbox, sizes = Rings(), Outbox[None](1000), []
    lane = Lane(
        "a", SlotPool(ModelInput(model.contract, model.graph.input), 64), rules_for(model.labels), None
    )
    ring = rings.add(lane, 50)
    for number in range(20):
        frame = frame_of(lane)
        frame.slot.pixels[...] = picture_of(number)
        frame.width, frame.height, frame.placement = WIDTH, HEIGHT, WHOLE
        ring.put_newest_wins(frame)
    rings.close(drain=True)
    with (
        open_session(model.path, model.graph, options(before)) as first,
        open_session(model.path, model.graph, options(after)) as second,
    ):
        worker = Worker(Detector(model, first, first.batch), rings, outbox, on_batch=sizes.append)
        adopted = threading.Event()
        worker.exchange(Detector(model, second, second.batch), 0, adopted.set)
        thread = threading.Thread(target=worker.run)
        thread.start()
        thread.join(60)
    assert adopted.is_set()
    assert max(sizes) == after
    results = [result for result in outbox.take(0) or [] if isinstance(result, Result)]
    assert [number_in([LABELS[int(i)] for i in result.detections.class_ids]) for result in results] == list(
        range(20)
    )
    assert lane.ledger.snapshot().in_flight == 0
