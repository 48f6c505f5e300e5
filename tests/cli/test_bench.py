"""`streamd bench` as a process of its own: what its JSON says is consistent, and what cannot be is one line."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from streamd.benchmark.report import Report
from streamd.core.timing import Stage
from tests.support import planted
from tests.support.clips import Clip, make
from tests.support.command import fails, run, run_inline, start
from tests.support.daemon import write_config
from tests.support.number_model import make_number_model
from tests.support.rtsp_camera import Camera, Login, Stream, units_of
from tests.support.tiny_models import Tiny

pytestmark = pytest.mark.slow

QUICK = ("--json", "--seconds", "0.5", "--provider", "cpu")
WORK = ("decode", "preprocess", "infer", "postprocess")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "numbers.mp4", Clip(frames=20, first=1, rate=10))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


def report_of(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What stdout holds, which is one document of the documented type and nothing else."""
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    msgspec.json.decode(result.stdout, type=Report)
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == "streamd.bench/1"
    assert "null" not in result.stdout
    return found


def assert_consistent(found: dict[str, Any]) -> None:
    speed, cameras = found["speed"], found["cameras"]
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert speed["frames_per_s"] * speed["seconds"] == pytest.approx(speed["frames"], rel=1e-3)
    assert list(speed["stages"]) == [stage.value for stage in Stage]
    for stage in speed["stages"].values():
        assert 0 <= stage["p50_ms"] <= stage["p95_ms"] <= stage["p99_ms"]
    assert {name for name, stage in speed["stages"].items() if "cpu_us" in stage} == set(WORK)
    work_us = sum(speed["stages"][name]["cpu_us"] for name in WORK)
    assert all(speed["stages"][name]["cpu_us"] > 0 for name in WORK)
    assert work_us + speed["overhead_us"] == pytest.approx(speed["cpu_us"], abs=0.1)
    assert speed["overhead_us"] > 0
    if "ideal" in speed:
        assert speed["ideal"]["share"] == pytest.approx(
            speed["frames_per_s"] / speed["ideal"]["frames_per_s"], abs=1e-3
        )
    assert cameras["estimate"] == int(min(cameras["by_cpu"], cameras["by_worker"]))
    assert cameras["bound"] in (*WORK, "overhead")
    held = [trial["cameras"] for trial in cameras["trials"] if trial["held"]]
    assert cameras["held"] == max(held, default=0)
    for trial in cameras["trials"]:
        assert trial["held"] is ("why" not in trial)
        assert trial["cpu"] > 0
        assert trial["memory_mib"] > 10
        assert trial["expected"] == pytest.approx(
            trial["cameras"] * cameras["rate"] * trial["seconds"], rel=0.05, abs=0.1
        )
        assert trial["age_p50_ms"] <= trial["age_p95_ms"] <= trial["age_p99_ms"]


@pytest.mark.long
def test_a_clip_with_everything(clip: Path, model: Path) -> None:
    words = ("--streams", "2", "--compare", "--pairs", "3")
    found = report_of(run("bench", clip, "-m", model, *QUICK, *words))
    assert_consistent(found)
    assert (found["source"], found["width"], found["height"]) == (str(clip), 320, 240)
    assert found["model"].startswith("number@")
    assert found["provider"] == "CPUExecutionProvider"
    assert found["cameras"]["rate"] == 10
    assert [trial["cameras"] for trial in found["cameras"]["trials"]] == [1, 2]
    assert "memory_per_camera_mib" in found["cameras"]
    compared = found["comparison"]
    assert len(compared["ratios"]) == compared["pairs"] == 3
    assert compared["ratio"] == statistics.median(compared["ratios"])
    assert (compared["least"], compared["most"]) == (min(compared["ratios"]), max(compared["ratios"]))
    assert compared["frames"] == 20
    # Two ways to read 20 numbers agree on every lit bit of them.
    lit = sum(number.bit_count() for number in range(1, 21))
    assert compared["objects"] == {
        "ours": lit,
        "usual": lit,
        "ours_met": 1.0,
        "usual_met": 1.0,
        "agree": True,
    }


@pytest.mark.long
def test_a_model_that_is_too_slow_for_a_second_camera(tmp_path: Path) -> None:
    """90 products of matrices for each of 40 pictures a second: the search ends below two cameras."""
    slow = make_number_model(tmp_path / "slow.onnx", burn=90)
    found = report_of(run("bench", "test:?rate=40&size=64x48", "-m", slow, *QUICK))
    assert_consistent(found)
    assert found["cameras"]["bound"] == "infer"
    assert found["cameras"]["held"] <= 1
    assert found["cameras"]["confirmed"]
    assert any("instead of 40" in trial.get("why", "") for trial in found["cameras"]["trials"])
    assert "ideal" not in found["speed"]  # it comes at its own pace


@pytest.mark.long
def test_a_lower_rate_is_asked_of_the_cameras(clip: Path, model: Path) -> None:
    found = report_of(
        run("bench", clip, "-m", model, *QUICK, "--seconds", "2", "--streams", "1", "--rate", "5")
    )
    assert_consistent(found)
    (trial,) = found["cameras"]["trials"]
    assert found["cameras"]["rate"] == 5
    assert trial["results"] <= 5 * trial["seconds"] * 1.2 + 1


@pytest.mark.long
def test_a_camera_with_a_password_is_connected_to_once_at_a_time(
    clip: Path, model: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2 &%\n")
    with Camera(units_of(clip), Stream(rate=25), Login("viewer", "hunter2 &%")) as camera:
        words = ("--username", "viewer", "--password-file", secret)
        result = run("bench", camera.url, "-m", model, *QUICK, *words)
    found = report_of(result)
    assert_consistent(found)
    assert "hunter2" not in result.stdout + result.stderr
    (alone,) = found["cameras"]["trials"]
    assert alone["cameras"] == 1
    assert alone["results"] > 0
    # Nobody opened a second connection to find out whether two would fit.
    assert found["cameras"]["confirmed"] is not alone["held"]


@pytest.mark.long
def test_a_stream_of_a_configuration(clip: Path, model: Path, tmp_path: Path) -> None:
    streams = {"gate": {"url": str(clip), "confidence": 0.5}, "yard": {"url": "test:?rate=4&size=64x48"}}
    config = write_config(tmp_path / "c.yaml", model, streams, batch={"limit": 2})
    found = report_of(
        run("bench", "-c", config, "--stream", "gate", "--json", "--seconds", "0.5", "--streams", "1")
    )
    assert_consistent(found)
    assert found["source"] == "gate"
    assert found["width"] == 320


@pytest.mark.long
def test_the_demo_as_tables() -> None:
    result = run(
        "bench", "--seconds", "0.5", "--max-frames", "10", "--streams", "1", "--compare", "--pairs", "1"
    )
    assert result.returncode == 0, result.stderr
    for words in ("demo.mp4", "640x360", "in no stage", "this box holds", "used up first", "times as long"):
        assert words in result.stdout
    assert "the same objects" in result.stdout
    assert "NOT" not in result.stdout


@pytest.mark.long
def test_a_comparison_in_which_nothing_is_seen_is_hollow(model: Path, tmp_path: Path) -> None:
    dark = make(tmp_path / "dark.mp4", Clip(frames=1, first=0, rate=10))
    result = run("bench", dark, "-m", model, *QUICK, "--streams", "1", "--compare", "--pairs", "1")
    fails(result, 1, "hollow")
    assert json.loads(result.stdout)["comparison"]["objects"]["agree"] is False


def test_what_cannot_be_asked(clip: Path, model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "test:"}, "b": {"url": "test:"}})
    faces = Tiny(planted.yunet(), height=64, width=96).write(tmp_path)
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_text("no model")
    for code, words, told in [
        (2, ("-c", config, clip), "leave out"),
        (2, ("-c", config), "--stream must be one of a, b"),
        (2, ("--stream", "a"), "-c FILE"),
        (2, ("test:?rate=100", "-m", model, "--compare"), "name a file"),
        (2, (clip, "-m", model, "--rate", "11"), "the source gives 10 frames a second"),
        (2, (clip, "-m", faces, "--compare"), "yunet"),
        (2, (clip, "-m", rubbish), "not an ONNX model"),
        (2, (clip, "-m", model, "--provider", "tpu"), "tensorrt, cuda, cpu"),
        (2, ("rtsp://a:b@127.0.0.1/x", "-m", model), "credentials"),
        (1, (clip, "-m", tmp_path / "none.onnx"), "no such model"),
        (1, (tmp_path / "none.mp4", "-m", model), "no such file"),
        (1, (rubbish, "-m", model), "not a video"),
        (1, ("-c", tmp_path / "none.yaml"), "none.yaml"),
    ]:
        fails(run_inline("bench", *words, "--seconds", "0.5"), code, told)


@contextmanager
def measuring(clip: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A benchmark that has just started its first daemon, and that daemon; both are gone afterwards."""
    bench = start("bench", clip, "-m", model, "--seconds", "4", "--max-frames", "5", "--streams", "1")
    daemon: psutil.Process | None = None
    try:
        deadline = time.monotonic() + 60
        while daemon is None and time.monotonic() < deadline and bench.poll() is None:
            children = psutil.Process(bench.pid).children()
            daemon = next((child for child in children if "streamd.benchmark.ward" in child.cmdline()), None)
            time.sleep(0.02)
        assert daemon is not None
        yield bench, daemon
    finally:
        bench.kill()
        bench.communicate()
        if daemon is not None and daemon.is_running():
            daemon.kill()


def has_ended(process: psutil.Process) -> bool:
    # Whoever takes it over may be slow to bury it.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_its_daemon(number: int, code: int, clip: Path, model: Path) -> None:
    with measuring(clip, model) as (bench, daemon):
        bench.send_signal(number)
        out, err = bench.communicate(timeout=30)
        assert bench.returncode == code, err
        assert (out, err) == ("", "")
        assert has_ended(daemon)


@pytest.mark.long
def test_its_daemon_does_not_outlive_it(clip: Path, model: Path) -> None:
    with measuring(clip, model) as (bench, daemon):
        bench.kill()
        psutil.wait_procs([daemon], timeout=30)
        assert has_ended(daemon)


def test_it_is_not_imported_for_other_verbs() -> None:
    code = "import sys, streamd.cli; print([m for m in sys.modules if m.startswith('streamd.benchmark')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
