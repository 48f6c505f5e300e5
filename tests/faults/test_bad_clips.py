"""Damaged clips: no crash, no hang, no traceback, and a verdict that fits what was published.

The long form (`-m soak`) reads 3000 of them; each is known by its seed: `clip_of(folder, seed)` makes it again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamd.core.errors import Reason
from tests.support import bad_clips
from tests.support.bad_clips import KINDS, Outcome, campaign, clip_of, judged
from tests.support.clips import Clip, make
from tests.support.command import run
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import number_of
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow

LONG = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    bad_clips.prepare(path)
    return path


def read_all(folder: Path, seeds: Sequence[int], children: int) -> list[Outcome]:
    outcomes = list(campaign(folder, seeds, children))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert sorted(outcome.seed for outcome in outcomes) == sorted(seeds)
    return outcomes


@pytest.mark.long
def test_damaged_clips_end_with_a_verdict(folder: Path) -> None:
    outcomes = read_all(folder, range(40), children=1)
    # Some are whole to the decoder, most are not, and some still show pictures before they break off.
    assert {outcome.code for outcome in outcomes} == {0, 1}
    assert any(outcome.frames for outcome in outcomes if outcome.code)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_damaged_clips_end_with_a_verdict(folder: Path) -> None:
    started = time.monotonic()
    outcomes = read_all(folder, range(1000, 1000 + LONG), children=2)
    print(f"{len(outcomes)} clips in {time.monotonic() - started:.0f} s")
    print("exit codes and reasons:", dict(Counter((o.code, o.reason) for o in outcomes)))
    print("slowest:", max(outcomes, key=lambda outcome: outcome.took_s))
    for kind in KINDS:
        codes = Counter(outcome.code for outcome in outcomes if outcome.kind == kind)
        assert codes[0], kind
        assert codes[1], kind


def test_clips_that_are_whole_are_no_fault(folder: Path, tmp_path: Path) -> None:
    for name in KINDS:
        answer = bad_clips.read(folder / name, folder / "number.onnx", tmp_path)
        assert answer == {"code": 0, "frames": 24, "reason": None, "fault": None}, name


@pytest.mark.long
def test_a_child_that_dies_hangs_or_chatters_is_told_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_clips, "SILENT_S", 2.0)
    outcomes = list(campaign(folder, range(8), 1, "tests.support.dying_reader"))
    faults = {outcome.seed: outcome.fault for outcome in outcomes if outcome.fault}
    assert {outcome.seed for outcome in outcomes} == set(range(8))
    assert faults.keys() == {3, 5, 7}
    assert "exit code -11" in str(faults[3])
    assert "no end after" in str(faults[5])
    assert "chatter" in str(faults[7])


@pytest.mark.parametrize(
    ("code", "err", "end", "word"),
    [
        (2, "streamd: clip.mp4: x\n", {"complete": False, "reason": "eof", "detail": "x"}, "exit code"),
        (1, "", {"complete": False, "reason": "eof", "detail": "x"}, "stderr"),
        (1, "streamd: clip.mp4: x\nb\n", {"complete": False, "reason": "eof", "detail": "x"}, "stderr"),
        (1, "streamd: clip.mp4: x\n", {"complete": False, "reason": "error", "detail": "x"}, "error"),
        (0, "", {"complete": False, "reason": "eof"}, "exit code 0"),
        (0, "", {"complete": True, "frames": 3}, "results"),
        (0, "oh\n", {"complete": True}, "stderr"),
    ],
)
def test_what_does_not_fit_together_is_a_fault(
    tmp_path: Path, code: int, err: str, end: dict[str, Any], word: str
) -> None:
    line = {"schema": "streamd.result/1", "seq": 0, "frame": 0, "width": 9, "height": 9, "objects": []}
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text(f"{json.dumps(line)}\n{json.dumps({'schema': 'streamd.end/1', 'frames': 1, **end})}\n")
    assert word in str(judged(code, "", err, jsonl, Path("clip.mp4"))["fault"])


def through_the_command(folder: Path, tmp_path: Path, seeds: Sequence[int]) -> Counter[int]:
    codes: Counter[int] = Counter()
    for seed in seeds:
        name, content = clip_of(folder, seed)
        clip, jsonl = tmp_path / f"clip{Path(name).suffix}", tmp_path / "clip.jsonl"
        clip.write_bytes(content)
        jsonl.unlink(missing_ok=True)
        done = run(
            "detect", clip, "-m", folder / "number.onnx", "--jsonl", jsonl, "--provider", "cpu", timeout_s=60
        )
        answer = judged(done.returncode, done.stdout, done.stderr, jsonl, clip)
        assert answer["fault"] is None, (seed, answer)
        codes[done.returncode] += 1
    return codes


@pytest.mark.long
def test_the_command_itself_tells_in_one_line(folder: Path, tmp_path: Path) -> None:
    assert sum(through_the_command(folder, tmp_path, (2, 14, 23)).values()) == 3


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_command_itself_tells_in_one_line_long(folder: Path, tmp_path: Path) -> None:
    codes = through_the_command(folder, tmp_path, range(100, 150))
    assert codes.keys() == {0, 1}


def played_beside_a_good_one(folder: Path, tmp_path: Path, seeds: Sequence[int], seconds: float) -> None:
    """Bad files in the daemon's streams, in a loop; the good one neither stops nor misses a picture."""
    good = make(tmp_path / "good.mp4", Clip(frames=100, width=128, height=96))
    streams: dict[str, Any] = {"good": {"url": str(good), "loop": True}}
    for seed in seeds:
        name, content = clip_of(folder, seed)
        clip = tmp_path / f"{seed}.{name}"
        clip.write_bytes(content)
        streams[f"bad{seed}"] = {"url": f"file:{clip}", "loop": seed % 3 == 0, "pace": "fast"}
    config = write_config(tmp_path / "c.yaml", folder / "number.onnx", streams)
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        end = time.monotonic() + seconds
        assert reader.wait(lambda _: time.monotonic() > end and len(reader.of("good/results")) > 40, 100)
        for state in daemon.streams().values():
            total = state["published"] + sum(state["dropped"].values()) + state["in_flight"]
            assert state["decoded"] == total
        final = daemon.streams()
        assert daemon.stop() == 0
    assert [line for line in daemon.log if "Traceback" in line or "ERROR" in line] == []
    reasons = {m.get("reason") for m in reader.of("/events")} - {None}
    assert reasons <= {str(reason) for reason in Reason} - {"error"}
    assert final["good"]["state"] == "live"
    fresh = [m["event"] for m in reader.of("good/events") if not m.get("replay")]
    assert set(fresh) <= {"connecting", "live", "removed"}
    got = reader.of("good/results")
    numbers = [number_of(m["objects"]) for m in got]
    first = numbers[0]
    assert first is not None
    assert numbers == [(first + i) % 100 for i in range(len(numbers))]
    assert [m["frame"] for m in got] == list(range(got[0]["frame"], got[0]["frame"] + len(got)))
    # Each bad one has come to an end of its own, or is tried again.
    assert {final[name]["state"] for name in streams if name != "good"} <= {
        "ended",
        "lost",
        "connecting",
        "live",
    }


@pytest.mark.long
def test_bad_files_in_the_daemon_leave_a_good_one_alone(folder: Path, tmp_path: Path) -> None:
    played_beside_a_good_one(folder, tmp_path, range(12), 3)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_bad_files_in_the_daemon_leave_a_good_one_alone_long(folder: Path, tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / str(n)).mkdir()
        played_beside_a_good_one(folder, tmp_path / str(n), range(200 + 24 * n, 224 + 24 * n), 15)
