"""More files that are read as fast as they go than there are cores: none is left out, none keeps a stop waiting."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from streamd.core.cores import usable_cores
from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, metric, write_config
from tests.support.number_model import make_number_model
from tests.support.waiting import until

pytestmark = pytest.mark.slow

_FILES = 3 * usable_cores()


def _results(daemon: RunningDaemon) -> list[float]:
    return [metric(daemon, "streamd_results_published_total", f"s{number}") for number in range(_FILES)]


def test_each_gets_its_share_and_a_stop_waits_for_none(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(width=640, height=480, frames=100))
    model = make_number_model(tmp_path / "m.onnx")
    entry = {"url": str(clip), "pace": "fast", "loop": True}
    config = write_config(tmp_path / "c.yaml", model, {f"s{number}": entry for number in range(_FILES)})
    with RunningDaemon(config) as daemon:
        until(lambda: min(_results(daemon)) > 200)  # each has begun anew once
        found = _results(daemon)
        assert min(found) > max(found) / 3
        open_files = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        until(lambda: min(_results(daemon)) > 1000)
        assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) < open_files + 2 * _FILES
        asked = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - asked < 5


def test_those_that_are_played_once_come_whole_and_a_missing_one_disturbs_none(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(width=640, height=480, frames=120))
    model = make_number_model(tmp_path / "m.onnx")
    streams = {f"s{number}": {"url": str(clip), "pace": "fast"} for number in range(_FILES)}
    streams["missing"] = {"url": str(tmp_path / "none.mp4"), "pace": "fast"}
    with RunningDaemon(write_config(tmp_path / "c.yaml", model, streams)) as daemon:
        until(lambda: _results(daemon) == [120.0] * _FILES)
        assert daemon.stop() == 0


def test_those_whose_pictures_are_not_wanted_make_way_as_well(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(width=160, height=128, frames=6000, gop=250))
    model = make_number_model(tmp_path / "m.onnx")
    entry = {"url": str(clip), "pace": "fast", "max_fps": 0.001}
    config = write_config(tmp_path / "c.yaml", model, {f"s{number}": entry for number in range(_FILES)})

    def decoded(daemon: RunningDaemon) -> list[float]:
        return [metric(daemon, "streamd_frames_decoded_total", f"s{number}") for number in range(_FILES)]

    with RunningDaemon(config) as daemon:
        until(lambda: sum(decoded(daemon)) > 500 * _FILES)  # long before one of them ends
        found = decoded(daemon)
        assert min(found) > max(found) / 3
        assert daemon.stop() == 0
