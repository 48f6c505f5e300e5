"""Pictures that lie on the device, in a batch with others."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from streamd.core.errors import ModelError
from streamd.models.contract import Array
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.graph import read_graph
from streamd.models.libraries import LibraryError
from streamd.models.memory import DeviceArray
from streamd.models.selection import rules_for
from tests.models.test_detector import WHOLE, number_in, picture_of
from tests.support.bound_sessions import on_device, opened
from tests.support.far_memory import FarMemory
from tests.support.number_model import HEIGHT, LABELS, WIDTH, make_number_model


@pytest.mark.parametrize("fixed", [None, 4])
def test_pictures_on_the_device_and_here_share_a_batch(tmp_path: Path, fixed: int | None) -> None:
    """Every mixture of five rows, each batch other numbers: what lies on the device is copied on it."""
    model = describe(make_number_model(tmp_path / "m.onnx", batch=fixed or "n"))
    rules = rules_for(model.labels)
    far = FarMemory()
    with opened(model.path, model.graph, lambda: far) as session:
        assert session.device == 0
        detector = Detector(model, session, session.batch)
        number = 1
        for mixture in itertools.product([False, True], repeat=fixed or 5):
            numbers = [number := (number * 37 + 11) % 60000 for _ in mixture]
            found: list[Array | DeviceArray] = []
            for one, there in zip(numbers, mixture, strict=True):
                found.append(on_device(picture_of(one)) if there else picture_of(one))
            copied, moved = far.copied, far.moved
            outputs = detector.run(found)
            size = picture_of(0).nbytes
            rows = session.rows(len(mixture))
            assert far.moved - moved == sum(mixture) * size
            assert far.copied - copied == (rows - sum(mixture)) * size + sum(one.nbytes for one in outputs)
            for row, wanted in enumerate(numbers):
                seen = detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules)
                assert number_in([LABELS[int(i)] for i in seen.class_ids]) == wanted


def test_pictures_on_the_device_come_back_where_the_session_cannot_take_them(tmp_path: Path) -> None:
    """One bound to host memory, one without fixed memory, and one that loses it in mid-run."""
    model = describe(make_number_model(tmp_path / "m.onnx"))
    rules = rules_for(model.labels)
    for way in ("bound here", "not bound", "fails"):
        with opened(model.path, model.graph, FarMemory if way == "fails" else None) as session:
            if way == "not bound":
                session.allow(2)
            if way == "fails":
                session._bounds[0].run = failing  # type: ignore[method-assign]
            detector = Detector(model, session, session.batch)
            for _ in range(2):
                outputs = detector.run([picture_of(7), on_device(picture_of(8)), on_device(picture_of(9))])
                for row, wanted in enumerate([7, 8, 9]):
                    seen = detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules)
                    assert number_in([LABELS[int(i)] for i in seen.class_ids]) == wanted
            detector.run([on_device(picture_of(8))])
            assert session.device is None


def failing(feeds: object, there: object) -> list[Array]:
    raise LibraryError("a copy failed")


def test_a_picture_of_another_form_on_the_device_is_one_line(tmp_path: Path) -> None:
    path = make_number_model(tmp_path / "m.onnx")
    with opened(path, read_graph(path), FarMemory) as session:
        batch = np.zeros((1, 3, HEIGHT, WIDTH), np.uint8)
        with pytest.raises(ModelError, match=r"on the GPU is uint8 \[3, 64, 1\], wanted uint8 \["):
            session.run({"images": batch}, 0, {0: on_device(np.zeros((3, HEIGHT, 1), np.uint8))})
