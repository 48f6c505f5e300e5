from __future__ import annotations

import json
from fractions import Fraction
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from streamd.bus import wire
from streamd.bus.messages import offline_result, result_message
from streamd.models.contract import Detections
from streamd.pipeline.outbox import Result
from tests.support.frames import frame_of, lane_of


def result_of(*, keypoints: bool = False, pts: float | None = 1.5, sar: Fraction | None = None) -> Result:
    frame = frame_of(lane_of("gate"))
    frame.pts, frame.sar = pts, sar
    points = np.array([[[1.234, 5.678]]], np.float32) if keypoints else None
    seen = Detections(
        np.array([[1.005, 2.119, 3.999, 4]], np.float32),
        np.array([0.91239], np.float32),
        np.array([0]),
        points,
    )
    frame.stamps.run = frame.stamps.inferred = frame.stamps.posted = frame.stamps.encoded = (
        frame.stamps.prepared
    )
    return Result(
        frame, frame.lane.ledger.published(), seen, "m@12345678", ("person",), "CPUExecutionProvider"
    )


def validate(name: str, message: object) -> dict[str, object]:
    schema = json.loads((files("streamd") / "assets" / "schemas" / f"{name}.schema.json").read_text())
    plain = json.loads(wire.encode(message))
    jsonschema.validate(plain, schema)
    return plain  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(wire.MESSAGES))
def test_the_schemas_in_the_package_are_those_of_the_types(name: str) -> None:
    written = json.loads((files("streamd") / "assets" / "schemas" / f"{name}.schema.json").read_text())
    assert written == wire.schema_of(name), "run tools/make_schemas.py"


def test_a_result_has_the_fields_of_the_contract_in_their_order() -> None:
    message = validate("result", result_message(result_of(sar=Fraction(4, 3)), "run1", 99))
    assert list(message) == [
        "schema", "run", "stream", "epoch", "seq", "frame", "dropped", "pts", "received_us", "published_us",
        "clock", "width", "height", "sar", "model", "provider", "stages_ms", "objects",
    ]  # fmt: skip
    assert message["schema"] == "streamd.result/1"
    assert message["sar"] == "4:3"
    assert list(message["stages_ms"]) == [  # type: ignore[call-overload]
        "decode", "preprocess", "queue", "infer", "postprocess", "publish", "total",
    ]  # fmt: skip
    assert message["objects"] == [
        {"class_id": 0, "class": "person", "score": 0.9124, "box": [1.0, 2.12, 4.0, 4.0]}
    ]


def test_what_is_unknown_is_left_out_and_nothing_is_null() -> None:
    message = validate("result", result_message(result_of(pts=None), "run1", 99))
    assert not {"pts", "captured_us", "sar"} & message.keys()
    assert None not in message.values()
    assert "keypoints" not in message["objects"][0]  # type: ignore[index]


def test_keypoints_have_two_decimals() -> None:
    message = validate("result", result_message(result_of(keypoints=True), "run1", 99))
    assert message["objects"][0]["keypoints"] == [[1.23, 5.68]]  # type: ignore[index]


def test_an_offline_line_holds_no_clock_unless_asked() -> None:
    line = validate("offline_result", offline_result(result_of(), "a.mp4", 0, timings=False))
    assert list(line) == [
        "schema", "source", "input", "frame", "seq", "pts", "width", "height", "model", "provider", "objects",
    ]  # fmt: skip
    timed = validate("offline_result", offline_result(result_of(), "a.mp4", 0, timings=True))
    assert timed.keys() - line.keys() == {"clock", "dropped", "received_us", "stages_ms"}


@pytest.mark.parametrize(
    ("name", "message", "schema"),
    [
        ("event", wire.EventMessage(run="r", n=1, at_us=2, event="ready"), "streamd.event/1"),
        (
            "status",
            wire.StatusMessage(run="r", version="1", uptime_s=1.0, provider="p", model="m", streams={}),
            "streamd.status/1",
        ),
        ("offline_end", wire.OfflineEnd(source="a", input=0, frames=1, complete=True), "streamd.end/1"),
    ],
)
def test_every_message_says_which_it_is(name: str, message: object, schema: str) -> None:
    plain = validate(name, message)
    assert next(iter(plain)) == "schema"
    assert plain["schema"] == schema
    without = {key: value for key, value in plain.items() if key != "schema"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(without, wire.schema_of(name))


def test_topics_are_closed() -> None:
    assert not wire.topic("cam10", "results").startswith(b"streamd/cam1/")
