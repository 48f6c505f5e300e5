"""A real daemon, seen by top, view and record; what was recorded serves as the daemon did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from streamd import subscribe
from streamd.bus.replay import Pace
from tests.bus.test_recording import read
from tests.support.command import run_inline
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.playing import running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("watched")
    config = write_config(
        folder / "c.yaml",
        make_number_model(folder / "m.onnx"),
        {
            "gate": {"url": "test:?rate=30&size=128x64", "max_fps": 10},
            "dead": {"url": "rtsp://127.0.0.1:1/x"},
        },
        publish={"frames": "tcp://127.0.0.1:0", "frames_max_fps": 20},
    )
    with RunningDaemon(config) as running:
        yield running


@pytest.mark.long
def test_top_with_the_metrics_and_without(daemon: RunningDaemon) -> None:
    done = run_inline("top", daemon.endpoint, "--once", "--json", "--metrics", f"127.0.0.1:{daemon.port}")
    told = json.loads(done.stdout)
    gate, dead = told["streams"]["gate"], told["streams"]["dead"]
    assert (gate["state"], dead["state"], dead["reason"]) == ("live", "lost", "refused")
    assert set(gate["stages_ms"]) == {"decode", "preprocess", "queue", "infer", "postprocess", "publish"}
    assert gate["drops"]["rate_limit"] > 0
    assert gate["dropped"] > 0
    assert dead["reconnects"] > 0
    assert "metrics_problem" not in told
    alone = json.loads(run_inline("top", daemon.endpoint, "--once", "--json").stdout)
    assert alone["run"] == told["run"]
    assert "no --metrics named" in alone["metrics_problem"]
    assert not {"drops", "reconnects", "packets_lost"} & alone["streams"]["gate"].keys()
    assert "nobody listens there" in alone["streams"]["dead"]["detail"]


def test_view_saves_what_it_sees(daemon: RunningDaemon, tmp_path: Path) -> None:
    done = run_inline("view", daemon.pictures, "--count", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gate.jpg"]
    picture = cv2.imread(str(tmp_path / "gate.jpg"))
    assert picture.shape == (64, 128, 3)
    # The source is grey; what is coloured was drawn into it.
    assert (picture.max(axis=2).astype(int) - picture.min(axis=2) > 100).sum() > 50


@pytest.mark.long
def test_a_recording_serves_as_the_daemon_did(daemon: RunningDaemon, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    done = run_inline("record", daemon.endpoint, path, "--duration", "2")
    assert done.returncode == 0, done.stderr
    assert ", 0 lost on the bus" in done.stderr
    messages, fault = read(path.read_bytes())
    assert fault is None
    topics = {parts[0].decode() for parts in messages}
    assert {"streamd/gate/results", "streamd/gate/events", "streamd/_daemon/status"} <= topics
    recorded = [json.loads(parts[1]) for parts in messages if parts[0].endswith(b"/results")]
    with running(path.read_bytes(), Pace()) as bench:
        with subscribe(bench.endpoint, stream="gate", timeout_s=30) as client:
            seen = [next(client) for _ in recorded]
        assert client.gaps == 0
    assert [(one.run, one.seq, one.received_us) for one in seen] == [
        (one["run"], one["seq"], one["received_us"]) for one in recorded
    ]


@pytest.mark.long
def test_pictures_are_recorded_and_seen_again(daemon: RunningDaemon, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    assert run_inline("record", daemon.pictures, path, "--duration", "0.5").returncode == 0
    with running(path.read_bytes(), Pace(loop=True)) as bench:
        done = run_inline("view", bench.endpoint, "--once", "--out", tmp_path / "view")
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "view" / "gate.jpg")).shape == (64, 128, 3)
