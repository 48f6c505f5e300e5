"""The recording's format: what comes back byte for byte, where a cut file ends, and what is no recording."""

from __future__ import annotations

import base64
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.bus.recording import Recording, end_line, head_line, message_line
from streamd.core.errors import UsageError
from tests.support.bad_messages import GOOD

NEWER = b'{"schema":"streamd.result/2","stream":"gate","things":[1.50, {"a":  null}]}'
PARTS = [
    *([topic.encode(), body] for topic, body in GOOD.items()),
    [b"streamd/gate/results", NEWER],
    [b"streamd/gate/alarms", b'{"schema":"streamd.alarm/1"}'],
    [b"streamd/gate/frames", GOOD["streamd/gate/results"], b"\xff\xd8 a picture\n"],
    [b"streamd/gate/odd", b'{"pretty":\n 1}'],
    [b"streamd/gate/odd", b' {"blank": 1} '],
    [b"streamd/gate/odd", b"\xff\xfe no text"],
    [b"streamd/gate/odd", b"[" * 5000],
    [b"streamd/gate/odd", b""],
    [b"\xff topic"],
]


def recording_of(parts: list[list[bytes]], *, ended: bool = True) -> bytes:
    lines = [message_line(1000 * i, message) for i, message in enumerate(parts)]
    end = end_line(1000 * len(parts), len(parts), 0) if ended else b""
    return head_line("tcp://127.0.0.1:5560", 1) + b"".join(lines) + end


def read(file: bytes) -> tuple[list[list[bytes]], str | None]:
    recording = Recording(io.BytesIO(file), "s.jsonl")
    found = [message.parts for message in recording.messages()]
    return found, recording.fault


def test_every_message_comes_back_byte_for_byte() -> None:
    assert read(recording_of(PARTS)) == (PARTS, None)


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=5))
def test_any_parts_come_back(parts: list[list[bytes]]) -> None:
    assert read(recording_of(parts)) == (parts, None)


def test_a_line_is_json_for_other_tools_with_the_header_in_it() -> None:
    lines = [json.loads(line) for line in recording_of(PARTS).splitlines()]
    assert lines[0]["schema"] == "streamd.recording/1"
    assert lines[1] == {
        "after_us": 0,
        "topic": "streamd/gate/results",
        "header": json.loads(GOOD["streamd/gate/results"]),
    }
    assert lines[4]["header"]["schema"] == "streamd.result/2"
    assert base64.b64decode(lines[6]["more_base64"][0]) == PARTS[5][2]
    assert lines[-1] == {"after_us": 1000 * len(PARTS), "end": True, "messages": len(PARTS), "lost": 0}


def test_a_recording_cut_at_any_byte_gives_its_whole_messages_and_says_so() -> None:
    parts = PARTS[:3]
    whole = recording_of(parts)
    borders = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    # Of the end the line break may be missing.
    for cut in range(borders[0], len(whole) - 1):
        found, fault = read(whole[:cut])
        full = sum(border <= cut for border in borders) - 1
        assert found == parts[:full], cut
        assert fault is not None
        assert fault.startswith("s.jsonl"), cut


def test_a_damaged_line_ends_it_with_its_number() -> None:
    lines = recording_of(PARTS[:3]).splitlines(keepends=True)
    for rubbish in (
        b"\xff\n",
        b"{}\n",
        b'{"after_us": -3}\n',
        b"[" * 100_000 + b"\n",
        b'{"after_us": 1, "topic": 5}\n',
    ):
        found, fault = read(b"".join([*lines[:2], rubbish, *lines[2:]]))
        assert found == PARTS[:1]
        assert fault is not None
        assert "s.jsonl:3: is no line of a recording" in fault


def test_it_can_be_read_again() -> None:
    recording = Recording(io.BytesIO(recording_of(PARTS)), "s.jsonl")
    for _ in range(2):
        assert [message.parts for message in recording.messages()] == PARTS
        recording.rewind()
    assert recording.length_us == 1000 * len(PARTS)


@pytest.mark.parametrize(
    ("file", "word"),
    [
        (b"", "is empty"),
        (b"hello\nworld\n", "is no recording"),
        (b"\0\xff" * 100_000, "is no recording"),
        (b"[" * 100_000, "is no recording"),
        (b'{"schema":"streamd.result/1","source":"a"}\n', "is no recording"),
        (recording_of(PARTS)[:30], "is no recording"),
        (recording_of(PARTS).replace(b"recording/1", b"recording/2", 1), "newer version"),
    ],
)
def test_what_is_no_recording_is_refused(file: bytes, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Recording(io.BytesIO(file), "s.jsonl")
