"""The drawn street: the same from the same seed, and a truth that fits the pixels."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tools.demo import shipped
from tools.demo.clip import read_clip, write_clip, write_truth
from tools.demo.people import draw_person, random_person
from tools.demo.scene import CLASSES, MIN_HEIGHT, MIN_VISIBLE, MIN_WIDTH, Scene, Truth, lay_over, render_scene
from tools.demo.vehicles import draw_vehicle, random_vehicle

SEED = 305
ASSETS = Path(__file__).resolve().parents[2] / "streamd" / "assets"


@pytest.fixture(scope="module")
def shots() -> list[tuple[np.ndarray, list[Truth]]]:
    return list(render_scene(SEED, 8, step=30))


@pytest.mark.slow
def test_equal_seeds_give_equal_pixels_and_truth(shots: list[tuple[np.ndarray, list[Truth]]]) -> None:
    scene = Scene(SEED)
    for index in (5, 2):  # in any order
        frame, truth = scene.at(30 * index)
        np.testing.assert_array_equal(frame, shots[index][0])
        assert truth == shots[index][1]


@pytest.mark.slow
def test_other_seeds_give_other_streets(shots: list[tuple[np.ndarray, list[Truth]]]) -> None:
    other, _ = Scene(SEED + 1).at(0)
    assert np.mean(other != shots[0][0]) > 0.5


def test_frames_are_pictures_of_the_asked_size() -> None:
    frame, _ = Scene(4, (320, 240)).at(0)
    assert frame.shape == (240, 320, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 15


def test_truth_keeps_its_own_rules(shots: list[tuple[np.ndarray, list[Truth]]]) -> None:
    seen = set()
    for frame, truths in shots:
        height, width = frame.shape[:2]
        assert len({t.id for t in truths}) == len(truths)
        for t in truths:
            x1, y1, x2, y2 = t.box
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert 0.0 <= t.visible <= 1.0
            small = y2 - y1 < MIN_HEIGHT or x2 - x1 < MIN_WIDTH
            assert t.ignore == (small or t.visible < MIN_VISIBLE) or t.visible == MIN_VISIBLE
            seen.add(CLASSES[t.label])
    assert seen == set(CLASSES)


@pytest.mark.slow
def test_objects_move_smoothly_and_keep_their_id() -> None:
    frames = [truths for _, truths in render_scene(SEED, 6)]
    for before, after in pairwise(frames):
        last = {t.id: t for t in before}
        for t in after:
            inside = t.box[0] > 0 and t.box[2] < 640  # who is coming in grows by leaps
            if t.id in last and inside:
                moved = np.abs(np.subtract(t.box, last[t.id].box))
                assert t.label == last[t.id].label
                assert moved.max() <= 30


def test_a_figure_stands_on_its_spot_and_fills_its_box() -> None:
    person = random_person(np.random.default_rng(3))
    frame, owner = np.zeros((360, 640, 3), np.float32), np.zeros((360, 640), np.int16)
    truth = lay_over(frame, owner, draw_person(person, (300.0, 300.0), 60.0, 0.7, 1.0), 1)
    assert truth is not None
    x1, y1, x2, y2 = truth.box
    assert abs(y2 - 300) <= 4
    assert y2 - y1 == pytest.approx(person.height * 60, rel=0.08)
    assert x1 < 300 < x2
    rows, columns = np.nonzero(owner)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == truth.box
    assert truth.visible == np.count_nonzero(owner)


def test_what_stands_in_front_hides_what_is_behind() -> None:
    rng = np.random.default_rng(1)
    person, car = random_person(rng), random_vehicle(rng)
    frame, owner = np.zeros((360, 640, 3), np.float32), np.zeros((360, 640), np.int16)
    behind = lay_over(frame, owner, draw_person(person, (300.0, 250.0), 40.0, 0.0, 1.0), 1)
    lay_over(frame, owner, draw_vehicle(car, (300.0, 290.0), 60.0, 0.0, 1.0, False), 2)
    assert behind is not None
    assert np.count_nonzero(owner == 1) < behind.visible
    assert lay_over(frame, owner, draw_person(person, (-300.0, 250.0), 40.0, 0.0, 1.0), 3) is None


@pytest.mark.slow
def test_a_clip_is_the_same_bytes_again_and_decodes_to_its_frames(
    tmp_path: Path, shots: list[tuple[np.ndarray, list[Truth]]]
) -> None:
    frames = [frame for frame, _ in shots]
    for name in ("one.mp4", "two.mp4"):
        write_clip(tmp_path / name, frames, (640, 360), 25)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    decoded = list(read_clip(tmp_path / "one.mp4"))
    assert len(decoded) == len(frames)
    for before, after in zip(frames, decoded, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 6


def test_truth_file_can_be_read_back(tmp_path: Path, shots: list[tuple[np.ndarray, list[Truth]]]) -> None:
    path = tmp_path / "truth.json"
    write_truth(path, [truths for _, truths in shots], (640, 360), 25, SEED)
    read = json.loads(path.read_text())
    assert read["classes"] == list(CLASSES)
    assert (read["seed"], read["width"], read["height"], read["fps"]) == (SEED, 640, 360, 25)
    assert len(read["frames"]) == len(shots)
    first, truth = read["frames"][0][0], shots[0][1][0]
    assert first == {
        "id": truth.id,
        "class": CLASSES[truth.label],
        "box": list(truth.box),
        "visible": truth.visible,
        "ignore": truth.ignore,
    }


@pytest.mark.long
def test_the_shipped_clip_is_what_the_seed_gives() -> None:
    decoded = list(read_clip(ASSETS / "demo.mp4"))
    assert len(decoded) == shipped.FRAMES
    for index, (frame, truths) in enumerate(shipped.shipped_clip(12)):
        assert np.abs(frame.astype(int) - decoded[index]).mean() < 6
        assert {CLASSES[t.label] for t in truths if not t.ignore} == set(CLASSES)


def test_the_shipped_assets_stay_small() -> None:
    assert (ASSETS / "demo.mp4").stat().st_size < 1_500_000
    assert (ASSETS / "demo.onnx").stat().st_size < 1_000_000
