"""The examples beside a real daemon: they are there before it, read what it sends, and end with Ctrl-C."""

from __future__ import annotations

import csv
import os
import re
import sqlite3
import subprocess
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from streamd import pictures
from streamd.bus import wire
from tests.support import example
from tests.support.daemon import RunningDaemon, write_config
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow

LIGHT = ("zmq", "msgspec")
Sent = dict[tuple[str, int], tuple[wire.ResultMessage, bytes]]


@dataclass
class Visit:
    """What a daemon sent, and what the examples made of it, while both ran for a moment."""

    folder: Path
    results: list[dict[str, Any]] = field(default_factory=list)
    pictures: Sent = field(default_factory=dict)
    ended: dict[str, tuple[int, str, str]] = field(default_factory=dict)

    def first(self) -> dict[str, int]:
        """The first `seq` of each stream in `results`: of the readers that wait, one is connected before another."""
        return {result["stream"]: result["seq"] for result in reversed(self.results)}


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    folder = tmp_path_factory.mktemp("examples")
    assets = Path(str(files("streamd") / "assets"))
    bus, frames = f"ipc://{folder}/bus", f"ipc://{folder}/frames"
    streams = {
        "gate": {"url": str(assets / "demo.mp4"), "loop": True, "max_fps": 20},
        "yard": {"url": "test:?rate=20&size=320x180"},
    }
    publish = {"bind": bus, "frames": frames, "frames_max_fps": 10}
    config = write_config(folder / "c.yaml", assets / "demo.onnx", streams, publish=publish)
    gone = Visit(folder)
    running: dict[str, subprocess.Popen[str]] = {
        "subscriber": example.start("subscriber.py", bus, libraries=LIGHT),
        "count": example.start("count_people.py", bus, "--seconds", 2, libraries=LIGHT),
        "sqlite": example.start("to_sqlite.py", folder / "results.db", bus, libraries=LIGHT),
        "twin": example.start("to_sqlite.py", folder / "results.db", bus, libraries=LIGHT),
        "movie": example.start("draw_boxes.py", frames, folder / "gate.mp4", "--stream", "gate"),
        "folder": example.start("draw_boxes.py", frames, folder / "drawn", "--limit", 8),
    }
    with (
        Reader(bus) as reader,
        pictures(frames, timeout_s=60) as shown,
        RunningDaemon(config) as daemon,
    ):
        while running["folder"].poll() is None or len(reader.of("/results")) < 55:
            result, jpeg = next(shown)
            gone.pictures[result.stream, result.seq] = result, jpeg
        gone.ended["folder"] = example.end(running.pop("folder"), None)
        gone.ended |= {name: example.end(process) for name, process in running.items()}
        assert daemon.stop() == 0
        gone.results = reader.of("/results")
    return gone


def test_all_end_in_peace(visit: Visit) -> None:
    assert {name: code for name, (code, _, _) in visit.ended.items()} == dict.fromkeys(visit.ended, 0)
    for name in ("subscriber", "count"):
        assert visit.ended[name][2] == ""


def test_the_subscriber_prints_every_result(visit: Visit) -> None:
    sent = {
        f"{result['stream']} {result['seq']}: "
        + (", ".join(f"{item['class']} {item['score']:.2f}" for item in result["objects"]) or "-")
        for result in visit.results
    }
    first = visit.first()
    lines = [
        line
        for line in visit.ended["subscriber"][1].splitlines()
        if int(line.split()[1].rstrip(":")) >= first[line.split()[0]]
    ]
    assert len(lines) > 20
    assert set(lines) <= sent
    assert any("person" in line for line in lines)


def test_the_count_is_what_was_sent(visit: Visit) -> None:
    rows = list(csv.DictReader(visit.ended["count"][1].splitlines()))
    gate = [row for row in rows if row["stream"] == "gate"]
    people = [
        sum(item["class"] == "person" for item in result["objects"])
        for result in visit.results
        if result["stream"] == "gate"
    ]
    assert 20 < sum(int(row["results"]) for row in gate) <= len(people) + visit.first()["gate"]
    assert all(int(row["lost"]) == 0 for row in rows)
    assert sum(int(row["dropped"]) for row in gate) > 0  # its max_fps
    full = [row for row in gate if row["mean"]]
    assert full
    for row in full:
        assert min(people) <= float(row["mean"]) <= int(row["most"]) <= max(people)
    # To a tenth of a second: of the first one there may be less.
    seen = [float(row["seen_s"]) for row in full]
    assert max(seen) <= 2
    assert sum(seen) > 0.5


def test_sqlite_holds_the_results_as_they_were_sent(visit: Visit) -> None:
    sent = {(result["stream"], result["seq"]): result for result in visit.results}
    database = sqlite3.connect(visit.folder / "results.db")
    database.row_factory = sqlite3.Row
    assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    kept = database.execute("SELECT * FROM results").fetchall()
    told = [
        re.match(r".*results\.db: (\d+) results, 0 lost", visit.ended[name][2]) for name in ("sqlite", "twin")
    ]
    # Each result once, whoever of the two was first.
    assert len(kept) == sum(int(words[1]) for words in told if words) > 20
    for name in ("gate", "yard"):
        seqs = sorted(row["seq"] for row in kept if row["stream"] == name)
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    first = visit.first()
    for row in kept:
        if row["seq"] < first[row["stream"]]:
            continue
        result = sent[row["stream"], row["seq"]]
        names = ("run", "epoch", "frame", "dropped", "received_us", "pts", "width", "height", "model")
        assert [row[name] for name in names] == [result.get(name) for name in names]
        assert row["total_ms"] == result["stages_ms"]["total"]
        objects = database.execute("SELECT * FROM objects WHERE result = ?", (row["id"],)).fetchall()
        assert [tuple(item)[1:] for item in objects] == [
            (item["class"], item["score"], *item["box"]) for item in result["objects"]
        ]
    database.close()


def edges(result: wire.ResultMessage, image: np.ndarray) -> np.ndarray:
    """A mask [H, W] of where the boxes' edges are."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for item in result.objects:
        x1, y1, x2, y2 = (round(edge) for edge in item.box)
        cv2.rectangle(mask, (x1, y1), (x2 - 1, y2 - 1), 255, 1)
    return mask > 0


def assert_drawn(image: np.ndarray, result: wire.ResultMessage, jpeg: bytes) -> None:
    """Along the boxes the picture has changed, and below all of them, where no label is either, it has not."""
    source = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == source.shape
    change = np.abs(image.astype(int) - source).mean(axis=2)
    mask = edges(result, image)
    around = cv2.dilate(mask.astype(np.uint8), np.ones((41, 161), np.uint8)) > 0
    assert change[mask].mean() > max(40, 4 * change[~around].mean())  # encoding changes pictures, too


def test_the_folder_holds_pictures_with_boxes(visit: Visit) -> None:
    paths = sorted((visit.folder / "drawn").iterdir())
    assert len(paths) == 8
    checked = 0
    for path in paths:
        stream, _, seq = path.stem.split("-")
        result, jpeg = visit.pictures.get((stream, int(seq)), (None, b""))
        if result is not None and result.objects:
            assert_drawn(cv2.imread(str(path)), result, jpeg)
            checked += 1
    assert checked


def test_the_movie_shows_the_boxes_at_their_times(visit: Visit) -> None:
    told = re.match(r"(\d+) pictures in .*gate\.mp4", visit.ended["movie"][2])
    assert told
    with av.open(str(visit.folder / "gate.mp4")) as movie:
        shown = [(frame.time, frame.to_ndarray(format="bgr24")) for frame in movie.decode(video=0)]
    assert len(shown) == int(told[1]) > 3
    sent = [
        (result.received_us / 1e6, result, jpeg)
        for (name, _), (result, jpeg) in visit.pictures.items()
        if name == "gate"
    ]
    # When the movie began is not in it: at the moment from which the others have the distances that they had.
    for begin in {pair[0] - at for at, _ in shown for pair in sent}:
        found = [(image, pair) for at, image in shown for pair in sent if abs(pair[0] - begin - at) < 1e-4]
        if len(found) > len(shown) // 2:
            break
    else:
        pytest.fail(f"{[at for at, _ in shown]} are not {[at for at, _, _ in sent]}")
    for image, (_, result, jpeg) in found:
        assert_drawn(image, result, jpeg)


def test_without_a_screen_the_window_says_so() -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    screenless = example.start("draw_boxes.py", "tcp://127.0.0.1:1", env=env)
    headless = example.start("draw_boxes.py", "tcp://127.0.0.1:1", env={**env, "DISPLAY": ":0"})
    assert example.end(screenless, None)[::2] == (
        1,
        "draw_boxes: no screen here (DISPLAY is not set); name a movie or a folder to write to\n",
    )
    assert example.end(headless, None)[::2] == (
        1,
        "draw_boxes: this OpenCV is headless and opens no window; name a movie or a folder to write to\n",
    )


def test_the_plot_shows_who_was_there(visit: Visit) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib: pip install -r examples/requirements.txt")
    picture = visit.folder / "people.png"
    code, out, err = example.end(example.start("plot_sqlite.py", visit.folder / "results.db", picture), None)
    assert (code, err) == (0, "")
    assert re.search(r"people\.png: person, 2 streams, \d+ s in steps of 1 s", out)
    image = cv2.imread(str(picture)).astype(int)
    assert image.shape == (480, 1200, 3)
    # matplotlib's first two colours, one a stream.
    for colour in ((180, 119, 31), (14, 127, 255)):
        assert (np.abs(image - colour).max(axis=2) < 10).sum() > 20
    code, _, err = example.end(example.start("plot_sqlite.py", visit.folder / "none.db", picture), None)
    assert (code, err.count("\n")) == (1, 1)
    assert "none.db" in err
