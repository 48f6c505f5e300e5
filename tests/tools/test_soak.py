"""The soak itself: that it runs, and that each thing it watches for is found."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.number_model import LABELS
from tests.support.witness import Witness
from tools.soak.cameras import ROOT
from tools.soak.samples import Counters, counters_of, judge
from tools.soak.verdict import memory, slope_of, steady
from tools.soak.watch import Problems, Watch

FRAMES = 250


class Feed:
    """What a daemon would send of one stream, to be spoilt."""

    def __init__(self) -> None:
        self.problems = Problems(Witness())
        self.watch = Watch(
            ["a", "b"], ["b"], clip_frames=FRAMES, keyframe_s=1, max_age_ms=500, problems=self.problems
        )
        self.event_number = 0

    def result(self, seq: int, drawn: int | None, *, frame: int | None = None, **changes: Any) -> None:
        frame = seq if frame is None else frame
        names = ["unreadable"] if drawn is None else [n for n in LABELS[:-1] if drawn >> int(n[3:]) & 1]
        message = {
            "schema": "streamd.result/1", "run": "r", "stream": "a", "epoch": 0, "seq": seq, "frame": frame,
            "dropped": frame - seq, "received_us": 1000 * frame, "stages_ms": {"total": 5.0, "publish": 1.0},
            "objects": [{"class": name} for name in names],
        } | changes  # fmt: skip
        self.watch.take(f"streamd/{message['stream']}/results", json.dumps(message).encode())

    def event(self, stream: str | None, event: str, reason: str | None = None, at_us: int = 0) -> None:
        message: dict[str, Any] = {"schema": "streamd.event/1", "n": self.event_number, "event": event}
        self.event_number += 1
        message |= {"at_us": at_us, **({"stream": stream} if stream else {})}
        message |= {"reason": reason} if reason else {}
        self.watch.take("streamd/a/events", json.dumps(message).encode())

    def kinds(self) -> set[str]:
        return set(self.problems.counts)


def test_a_good_stream_is_no_problem() -> None:
    feed = Feed()
    feed.event("a", "connecting")
    feed.event("a", "live")
    feed.event("b", "lost", "refused")
    for number in range(300):
        feed.result(number, number % FRAMES)
    # The newest won: frames 300 to 304 were dropped.
    feed.result(300, 305 % FRAMES, frame=305)
    assert feed.problems.lines == []
    assert feed.watch.streams["a"].missing == 0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"seq": 12, "frame": 12, "drawn": 12}, "gap"),
        ({"seq": 9, "frame": 9, "drawn": 10}, "gap"),
        ({"seq": 10, "drawn": None}, "picture"),
        ({"seq": 10, "drawn": 10, "dropped": 3}, "count"),
        ({"seq": 10, "drawn": 10, "stages_ms": {"total": 700.0, "publish": 1.0}}, "age"),
    ],
)
def test_a_bad_result_is_found(change: dict[str, Any], kind: str) -> None:
    feed = Feed()
    for number in range(10):
        feed.result(number, number)
    feed.result(**change)
    assert feed.kinds() == {kind}


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (("b", "lost", "error"), "reason"),
        (("b", "lost", "gremlins"), "reason"),
        (("a", "lost", "eof"), "event"),
        (("a", "stalled", "timeout"), "event"),
        (("b", "ended", "eof"), "event"),
        ((None, "output_failed"), "event"),
    ],
)
def test_a_bad_event_is_found(event: tuple[Any, ...], kind: str) -> None:
    feed = Feed()
    feed.event(*event)
    assert feed.kinds() == {kind}
    feed.event_number += 1
    feed.event("a", "live")
    assert feed.kinds() == {kind, "gap"}


def test_pictures_that_nobody_counts_are_found() -> None:
    feed = Feed()
    feed.result(0, 0)
    feed.result(1, 4)
    assert feed.watch.streams["a"].missing == 3
    for skipped, kinds in ((3, set()), (2, {"picture"})):
        judge({"a": Counters(2, 2, skipped={"behind": skipped})}, {}, feed.watch, feed.problems)
        assert feed.kinds() == kinds


def test_a_picture_shown_twice_is_found() -> None:
    feed = Feed()
    feed.result(0, 0)
    feed.result(1, 0)
    judge({"a": Counters(2, 2)}, {}, feed.watch, feed.problems)
    assert feed.kinds() == {"picture"}


def test_the_time_until_a_camera_is_seen_again_is_measured() -> None:
    feed = Feed()
    feed.result(0, 0, stream="b")
    feed.watch.returned("b", 5_000_000)
    feed.result(1, 1, stream="b", received_us=4_900_000)  # was on its way
    feed.event("b", "connecting", at_us=6_500_000)
    feed.result(2, 0, stream="b", received_us=7_000_000)
    assert list(feed.watch.streams["b"].waits_s) == [2.0]
    assert list(feed.watch.streams["b"].attempts_s) == [0.5]
    assert feed.problems.lines == []
    feed.watch.returned("b", 10_000_000)
    feed.result(3, 0, stream="b", received_us=60_000_000)
    assert feed.kinds() == {"return"}


PAGE = """# TYPE streamd_frames_decoded counter
streamd_frames_decoded_total{stream="a"} 12.0
streamd_results_published_total{stream="a"} 9.0
streamd_frames_dropped_total{reason="stale",stream="a"} 2.0
streamd_frames_dropped_total{reason="ring_full",stream="a"} 0.0
streamd_frames_in_flight{stream="a"} 1.0
streamd_reconnects_total{reason="eof",stream="a"} 3.0
streamd_stream_up{stream="a"} 1.0
streamd_stage_seconds_bucket{le="0.001",stage="decode",stream="a"} 4.0
"""


def test_the_counters_are_read_and_must_balance() -> None:
    rows = counters_of(PAGE, ["a"])
    assert rows["a"] == Counters(12, 9, 1, True, {"stale": 2}, {}, {"eof": 3})
    for page, kinds in (
        (PAGE, {"disturbed"}),
        (PAGE.replace('stream="a"} 9.0', 'stream="a"} 8.0'), {"disturbed", "conservation"}),
    ):
        feed = Feed()
        judge(counters_of(page, ["a"]), {}, feed.watch, feed.problems)
        assert feed.kinds() == kinds


def test_what_grows_is_found() -> None:
    chance = random.Random(1)
    hours = [i / 360 for i in range(180)]
    slope = slope_of(hours, [100 + 3 * hour + chance.gauss(0, 0.1) for hour in hours])
    assert slope is not None
    assert abs(slope.per_h - 3) < 3 * slope.error + 0.05

    def rows(mb_per_h: float, threads: float, descriptors: float) -> list[dict[str, float]]:
        return [
            {"elapsed_s": 3600 * h, "rss_kb": 1024 * mb_per_h * h, "anonymous_kb": 0, "live": 10,
             "threads": 20 + int(threads * h), "descriptors": 30 + int(descriptors * h)}
            for h in hours
        ]  # fmt: skip

    assert [limit.holds for limit in memory(rows(0.9, 0, 0), 10)] == [True, True]
    assert [limit.holds for limit in memory(rows(1.1, 0, 0), 10)] == [False, True]
    assert [limit.holds for limit in memory(rows(1.1, 0, 0)[:60], 10)] == [None, None]
    assert [limit.holds for limit in steady(rows(0, 0, 0), 4)] == [True, True, True]
    assert [limit.holds for limit in steady(rows(0, 4, 10), 4)] == [False, True, False]


@pytest.mark.soak
def test_a_short_soak_runs_to_its_verdict(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "tools.soak", "--minutes", "0.5", "--cameras", "3", "--flapping", "1"),
        *("--up", "4", "7", "--warm-up-minutes", "0.05", "--sample", "2", "--out", str(tmp_path / "out")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # On a machine that is busy frames may be dropped, and threads or descriptors come a moment later.
    assert summary["problems"] == [], done.stdout
    assert done.returncode == (0 if summary["holds"] else 1)
    assert summary["return_to_first_result_s"]["count"] >= 1
    assert summary["reconnects"].keys() == {"cam00"}
    assert summary["results"]["steady"] > 100
    with (tmp_path / "out" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 5
    assert all(float(row["rss_kb"]) > 10_000 for row in rows)
