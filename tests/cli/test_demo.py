"""`streamd demo`, and the demo model on scenes that it has never seen."""

from __future__ import annotations

import threading
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import pytest

from streamd.models.chain import open_session
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.preprocess import Letterbox
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.sources import SourceRequest, open_source
from tests.support.command import lines_of, run
from tests.support.map50 import Detections, map50
from tools.demo.clip import write_clip
from tools.demo.scene import render_scene
from tools.eval_demo_model import as_objects

pytestmark = pytest.mark.slow

# Used in no training, and for no choice.
UNSEEN = (7101, 7102, 7103, 7104)
FRAMES, STEP = 20, 12
OPTIONS = RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), 1, None)


def test_the_demo_shows_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "demo.jsonl").write_text("of an earlier run, which this one replaces")
    done = run("demo", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("person", "vehicle", "infer", "decode", "demo.jsonl"):
        assert word in done.stdout
    *lines, end = lines_of(tmp_path / "demo.jsonl")
    assert end["complete"] is True
    assert len(lines) == end["frames"] == 250
    assert {line["source"] for line in lines} == {"demo.mp4"}
    with av.open(str(tmp_path / "demo.mp4")) as movie:
        assert sum(1 for _ in movie.decode(video=0)) == 250


def test_clip_and_model_are_small() -> None:
    assets = files("streamd") / "assets"
    sizes = {name: len((assets / name).read_bytes()) for name in ("demo.mp4", "demo.onnx")}
    assert sizes["demo.onnx"] <= 1_000_000
    assert sum(sizes.values()) <= 3_000_000


@pytest.mark.long
def test_the_demo_model_finds_what_it_has_never_seen(tmp_path: Path) -> None:
    """mAP50 over unseen scenes, encoded to H.264, on the product's own way from file to detections."""
    description = describe(Path(str(files("streamd") / "assets" / "demo.onnx")))
    shape = description.graph.input
    rules = rules_for(description.labels, confidence=0.05, iou=0.6)
    letterbox = Letterbox(description.contract, shape)
    slot = np.zeros(shape.picture, shape.dtype)
    found: list[Detections] = []
    truth = []
    with open_session(description.path, description.graph, OPTIONS) as session:
        detector = Detector(description, session, 1)
        for seed in UNSEEN:
            clip = tmp_path / f"{seed}.mp4"
            rendered = list(render_scene(seed, FRAMES, step=STEP))
            write_clip(clip, (picture for picture, _ in rendered), (640, 360), 25)
            truth += [as_objects(objects) for _, objects in rendered]
            with open_source(SourceRequest(str(clip)), threading.Event()) as source:
                for picture in source.pictures():
                    placement = letterbox.write(picture, slot, None)
                    size = (picture.width, picture.height)
                    seen = detector.read(detector.run([slot]), 0, placement, size, rules)
                    found.append(Detections(seen.boxes, seen.scores, seen.class_ids))
    assert len(found) == len(truth) == FRAMES * len(UNSEEN)
    result = map50(found, truth)
    print(f"\nmAP50 {result.map50:.4f}, by class {result.ap}, objects {result.objects}")
    assert result.objects.keys() == {0, 1}
    assert result.map50 >= 0.90
