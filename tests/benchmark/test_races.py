"""The commands behind the figures of docs/PERFORMANCE.md still run and say what they shall; nothing is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import Clip, make
from tests.support.number_model import make_number_model

pytestmark = pytest.mark.long


def race(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_own_time_and_the_engine(tmp_path: Path) -> None:
    own = race("tests.support.path_race", "own", "--frames", "40", "--pairs", "1")
    assert min(own[f"{side}_cpu_us"]["median"] for side in ("offline", "bare")) > 0
    model = make_number_model(tmp_path / "m.onnx", burn=3, batch=1)
    engine = race("tests.support.path_race", "engine", model, "--frames", "6", "--pairs", "1")
    assert engine["path_to_bare"]["median"] > 0
    assert engine["prepared_to_bare"]["median"] > 0


def test_decoding_and_a_hostile_thread(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=20))
    decode = race("tests.support.decode_race", clip, "--streams", "2", "--pairs", "1", "--seconds", "1")
    assert decode["daemon_to_bare"]["median"] > 0
    hostile = race("tests.support.path_race", "hostile", clip, "--pairs", "1")
    assert hostile["p99"]["beside_to_alone"]["median"] > 0


def test_a_daemons_start_and_overload(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    model = make_number_model(tmp_path / "m.onnx", burn=120, batch=1)
    begun = race("tests.support.daemon_race", "start", model, clip, "--starts", "1")
    assert begun["first_result_s"]["median"] > 0
    assert begun["seq"] == 0
    crowd = race("tests.support.daemon_race", "overload", model, "--cameras", "8", "--seconds", "2")
    assert crowd["offered_to_served"] > 1
    # Nothing is posted that is older than the budget; `total` ends a little later.
    assert crowd["p99_to_budget"] < 1.2


def test_a_crowd_of_cameras() -> None:
    found = race("tests.support.crowd_race", "--cameras", "6", "--rate", "20", "--seconds", "1")
    assert found["asked_per_s"] == 120
    assert 60 < found["results_per_s"] < 180
