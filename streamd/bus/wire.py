"""The messages of wire version 1.

A field that is unknown is left out; none is ever null. Messages grow by addition: clients ignore what they do
not know. Wall times are whole microseconds since 1970.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

# The field `schema` that leads every message: always written, and checked when a message is read.
RESULT = "streamd.result/1"
EVENT = "streamd.event/1"
STATUS = "streamd.status/1"
END = "streamd.end/1"

StreamEventName = Literal["connecting", "live", "stalled", "lost", "ended", "reset", "removed"]
DaemonEventName = Literal[
    "ready",
    "model_building",
    "model_ready",
    "model_failed",
    "provider_changed",
    "reloaded",
    "reload_refused",
    "client_refused",
    "output_failed",
    "stopping",
]
Millis = dict[str, float]
"""Stage name to milliseconds, 3 decimals."""


class Object(Struct, omit_defaults=True):
    """One detected object. `box` is x1, y1, x2, y2, exclusive edges, in stored pixels of the upright source."""

    class_id: int
    class_name: str = msgspec.field(name="class")
    score: float
    box: tuple[float, float, float, float]
    keypoints: list[tuple[float, float]] | UnsetType = UNSET


class ResultMessage(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=RESULT):
    """What was seen in one frame of a stream (topic `streamd/<stream>/results`)."""

    run: str
    stream: str
    epoch: int
    seq: int
    frame: int
    dropped: int
    pts: float | UnsetType = UNSET
    captured_us: int | UnsetType = UNSET
    received_us: int
    published_us: int
    clock: Literal["rtcp", "arrival", "file"]
    width: int
    height: int
    sar: str | UnsetType = UNSET
    model: str
    provider: str
    stages_ms: Millis
    objects: list[Object]


class EventMessage(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=EVENT):
    """Something happened to a stream, or to the daemon (then without `stream` and `epoch`)."""

    run: str
    stream: str | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    n: int
    at_us: int
    event: StreamEventName | DaemonEventName
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    replay: bool | UnsetType = UNSET


class StreamStatus(Struct, omit_defaults=True, kw_only=True):
    """One stream in the status message. `fps`: results a second since the last status."""

    state: str
    reason: str | UnsetType = UNSET
    fps: float
    age_p99_ms: float | UnsetType = UNSET
    seq: int
    decoded: int
    dropped: int


class StatusMessage(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=STATUS):
    """The whole daemon, each second (topic `streamd/_daemon/status`)."""

    run: str
    version: str
    uptime_s: float
    provider: str
    model: str
    streams: dict[str, StreamStatus]
    replay: bool | UnsetType = UNSET


class OfflineResult(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=RESULT):
    """One line of `streamd detect --jsonl`. The last four only with `--timings`."""

    source: str
    input: int
    frame: int
    seq: int
    pts: float | UnsetType = UNSET
    width: int
    height: int
    sar: str | UnsetType = UNSET
    model: str
    provider: str
    objects: list[Object]
    clock: Literal["rtcp", "arrival", "file"] | UnsetType = UNSET
    dropped: int | UnsetType = UNSET
    received_us: int | UnsetType = UNSET
    stages_ms: Millis | UnsetType = UNSET


class OfflineEnd(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=END):
    """Closes an input of `streamd detect --jsonl`. `reason` says why it is not complete, `detail` where."""

    source: str
    input: int
    frames: int
    complete: bool
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


MESSAGES: dict[str, type[Struct]] = {
    "result": ResultMessage,
    "event": EventMessage,
    "status": StatusMessage,
    "offline_result": OfflineResult,
    "offline_end": OfflineEnd,
}
"""Every message that streamd writes, by the name of its JSON Schema in the package."""

encode = msgspec.json.Encoder().encode


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of one of `MESSAGES`."""
    return schema(MESSAGES[name])


def schema(message: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of a message, or of anything else that is written as JSON."""
    (_, components) = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
    for described in components.values():
        # A docstring keeps its indentation up to Python 3.12.
        if "description" in described:
            described["description"] = cleandoc(described["description"])
    top = dict(components.pop(message.__name__))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": message.__name__,
        **top,
        "$defs": components,
    }


def topic(stream: str, kind: str) -> bytes:
    """The topic of a stream's messages. The id is closed by `/`: `cam1` is no prefix of `cam10`'s topic."""
    return f"streamd/{stream}/{kind}".encode()
