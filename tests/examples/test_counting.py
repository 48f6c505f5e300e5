"""examples/count_people.py, told exactly what there is to count."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from streamd.bus import wire
from tests.support import example
from tests.support.feed import Feed

MINUTE = 1_790_000_040  # begins one
LIGHT = ("zmq", "msgspec")


class Camera:
    """Sends a stream's messages; `at` is seconds since `MINUTE`."""

    def __init__(self, feed: Feed, stream: str) -> None:
        self._feed, self._stream = feed, stream
        self.run, self.seq, self.dropped, self._events = "r1", 0, 0, 0

    def result(self, at: float, people: int, pts: float | None = None) -> None:
        received_us = int((MINUTE + at) * 1e6)
        person = wire.Object(class_id=0, class_name="person", score=0.9, box=(1, 2, 3, 4))
        message = wire.ResultMessage(
            run=self.run, stream=self._stream, epoch=0, seq=self.seq, frame=self.seq + self.dropped,
            dropped=self.dropped, pts=at if pts is None else pts, received_us=received_us,
            published_us=received_us + 20_000, clock="arrival", width=9, height=9, model="m@1", provider="CPU",
            stages_ms={}, objects=[person] * people + [wire.Object(1, "vehicle", 0.9, (1, 2, 3, 4))],
        )  # fmt: skip
        self._feed.send(f"streamd/{self._stream}/results", wire.encode(message))
        self.seq += 1

    def event(self, at: float, name: wire.StreamEventName, reason: str | None = None) -> None:
        self._events += 1
        message = wire.EventMessage(
            run=self.run,
            stream=self._stream,
            epoch=0,
            n=self._events,
            at_us=int((MINUTE + at) * 1e6),
            event=name,
        )
        if reason:
            message.reason = reason
        self._feed.send(f"streamd/{self._stream}/events", wire.encode(message))


@pytest.mark.long
def test_gaps_are_neither_people_nor_their_absence(tmp_path: Path) -> None:
    with Feed(tmp_path) as feed:
        by_wall = example.start("count_people.py", feed.endpoint, libraries=LIGHT)
        by_media = example.start(
            "count_people.py", feed.endpoint, "--time", "media", "--seconds", 20, libraries=LIGHT
        )
        feed.wait_for(2)
        gate, yard = Camera(feed, "gate"), Camera(feed, "yard")
        yard.event(0, "lost", "auth")
        for half in range(120):
            gate.result(half / 2, 2 if half < 60 else 4)
        for half in range(120, 160):
            if half == 130:
                gate.seq += 3  # lost on the bus
                gate.dropped += 2
            gate.result(half / 2, 1)
        gate.event(83, "stalled")
        gate.event(85, "lost", "timeout")
        gate.event(99, "connecting")
        gate.run, gate.seq, gate.dropped = "r2", 0, 40  # started again: what it counted before is no loss
        gate.event(100, "live")
        for half in range(200, 240):
            gate.result(half / 2, 1)
        gate.event(250, "connecting")
        gate.result(260, 7, pts=3.0)
        gate.event(261, "removed", "operator")
        assert by_wall.stdout is not None
        assert by_media.stdout is not None
        wall = [by_wall.stdout.readline() for _ in range(10)]
        media = [by_media.stdout.readline() for _ in range(8)]
        wall += example.end(by_wall)[1].splitlines()
        code, rest, err = example.end(by_media)
    assert (by_wall.returncode, code, err) == (0, 0, "")
    names = ["mean", "most", "seen_s", "results", "dropped", "lost", "events"]
    rows = {
        (row["stream"], row["minute"][14:16]): [row[name] for name in names] for row in csv.DictReader(wall)
    }
    assert rows == {
        ("gate", "14"): ["3.00", "4", "60.0", "120", "0", "0", ""],
        # From 60 until a second after the result at 79.5, then from 100.
        ("gate", "15"): ["1.00", "1", "40.5", "80", "2", "3", "stalled lost:timeout connecting live"],
        ("gate", "16"): ["1.00", "1", "0.5", "0", "0", "0", ""],
        ("gate", "17"): ["", "", "0.0", "0", "0", "0", ""],
        ("gate", "18"): ["7.00", "7", "1.0", "1", "0", "0", "connecting removed:operator"],
    } | {
        ("yard", str(minute)): ["", "", "0.0", "0", "0", "0", "lost:auth" * (minute == 14)]
        for minute in range(14, 19)
    }
    told = "stalled lost:timeout connecting live"
    assert [[row["minute"], *(row[name] for name in names)] for row in csv.DictReader(media)] == [
        ["0:00:00", "2.00", "2", "20.0", "40", "0", "0", ""],
        ["0:00:20", "3.00", "4", "20.0", "40", "0", "0", ""],
        ["0:00:40", "4.00", "4", "20.0", "40", "0", "0", ""],
        # Events have no media time: they stand where the stream was.
        ["0:01:00", "1.00", "1", "20.0", "40", "2", "3", told],
        ["0:01:20", "1.00", "1", "0.5", "0", "0", "0", ""],
        ["0:01:40", "1.00", "1", "19.5", "40", "0", "0", "connecting"],
        ["0:00:00", "", "", "0.0", "1", "0", "0", "removed:operator"],
    ]
    assert rest == ""
