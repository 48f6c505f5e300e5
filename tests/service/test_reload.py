"""SIGHUP: what changes, what goes on untouched, and what is refused as a whole."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.support.bench import Bench, balances, without_gaps
from tests.support.clips import Clip, make
from tests.support.command import run
from tests.support.daemon import write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.rtsp_camera import Camera, Login, Stream, units_of
from tests.support.tiny_models import Tiny

pytestmark = pytest.mark.slow

TEST = {"url": "test:?rate=25&size=128x64", "max_age_ms": 10_000}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


@pytest.fixture
def bench(tmp_path: Path, model: Path) -> Callable[[dict[str, Any]], Bench]:
    return lambda streams: Bench(tmp_path / "c.yaml", model, streams)


def test_streams_come_go_and_change_and_the_others_do_not_notice(
    bench: Callable[[dict[str, Any]], Bench],
) -> None:
    streams = {name: dict(TEST) for name in ("same", "gone", "stricter", "patient", "moved")}
    with bench(streams) as bench_:
        assert bench_.all_more(streams)
        del streams["gone"]
        streams["stricter"]["classes"] = ["bit3"]
        streams["patient"]["timeout_s"] = 7
        streams["moved"]["url"] += "&gop=10"
        streams["new"] = dict(TEST)
        bench_.change(streams=streams)
        assert bench_.reload()["detail"] == "2 added, 2 removed, 2 changed"
        assert bench_.all_more(streams)
        balances(bench_)
        assert list(bench_.daemon.streams()) == list(streams)
        assert bench_.daemon.stop() == 0

        assert bench_.untouched("same")
        drawn = [number_of(m["objects"]) for m in bench_.results("same")]
        assert [b - a for a, b in itertools.pairwise(m["frame"] for m in bench_.results("same"))] == [
            (b or 0) - (a or 0) for a, b in itertools.pairwise(drawn)
        ]

        assert bench_.events("gone")[-1] == "removed"
        assert bench_.events("gone").count("removed") == 1

        assert bench_.untouched("stricter")
        assert {o["class"] for o in bench_.results("stricter")[-1]["objects"]} <= {"bit3"}

        # Opened again, but the same stream: its numbers go on.
        assert bench_.events("patient")[-3:] == ["connecting", "live", "removed"]
        assert without_gaps(bench_.results("patient"))

        assert bench_.events("moved")[-4:] == ["removed", "connecting", "live", "removed"]
        epochs = {epoch: [m for m in bench_.results("moved") if m["epoch"] == epoch] for epoch in (0, 1)}
        assert all(without_gaps(results) for results in epochs.values())
        assert epochs[1][0]["seq"] == epochs[1][0]["frame"] == 0

        assert bench_.results("new")[0]["seq"] == 0
        assert {m["epoch"] for m in bench_.results("new")} == {0}


@pytest.mark.long
def test_a_stream_that_is_switched_off_and_on_begins_anew(bench: Callable[[dict[str, Any]], Bench]) -> None:
    streams = {"a": dict(TEST), "b": dict(TEST)}
    with bench(streams) as bench_:
        assert bench_.more("b")
        for enabled, epoch in ((False, 0), (True, 1)):
            streams["b"]["enabled"] = enabled
            bench_.change(streams=streams)
            bench_.reload()
            assert ("b" in bench_.daemon.streams()) is enabled
            if enabled:
                assert bench_.more("b")
            assert {m["epoch"] for m in bench_.results("b")[-5:]} == {epoch}
        assert bench_.results("b")[-1]["seq"] < len(bench_.results("b"))
        assert without_gaps(bench_.results("a"))
        assert bench_.daemon.stop() == 0


def refusals(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    yield {"publish": {"bind": "tcp://127.0.0.1:5999"}}, "needs a restart: publish.bind"
    yield (
        {"metrics": {"listen": None}, "runtime": {"providers": ["cpu"], "precision": "fp32"}},
        "needs a restart: metrics.listen, runtime.precision",
    )
    yield {"streams": {"a": {**TEST, "confidence": 3}}}, "streams.a.confidence"
    yield {"streams": {"a": {**TEST, "classes": ["cow"]}}}, "streams.a.classes"
    yield {"streams": {"a": {**TEST, "password": "${cred:none}"}}}, "CREDENTIALS_DIRECTORY"
    yield {"model": {"path": str(folder / "none.onnx")}}, "none.onnx"
    yield {"model": {"path": str(folder / "rubbish.onnx")}}, "rubbish.onnx"
    # It loads and runs: only what comes out of it does not fit the head.
    yield {"model": {"path": str(folder / "decoded.onnx"), "head": "yolox"}}, "decoded boxes"
    yield {"unknown": 1}, "unknown"


def decoded_boxes() -> np.ndarray:
    """What a YOLOX gives that was exported with its decoding: boxes in pixels."""
    rows = np.zeros((126, 7), np.float32)
    rows[:, :4], rows[:, 4:6] = 40, 0.9
    return rows


def test_a_model_whose_outputs_do_not_fit_its_head_is_not_started_with(tmp_path: Path) -> None:
    """Exit code 2: systemd must not try it again and again."""
    model = Tiny(outputs={"output": decoded_boxes()}, batch=1).write(tmp_path / "decoded.onnx")
    path = write_config(tmp_path / "c.yaml", model, {"a": dict(TEST)})
    path.write_text(
        yaml.safe_dump(yaml.safe_load(path.read_text()) | {"model": {"path": str(model), "head": "yolox"}})
    )
    done = run("run", "-c", path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"streamd: {model}: the model's output 'output' holds decoded boxes")
    assert "set head: yolov5" in last


@pytest.mark.long
def test_what_cannot_be_applied_changes_nothing_and_says_why(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench]
) -> None:
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish" * 100)
    Tiny(outputs={"output": decoded_boxes()}, batch=1).write(tmp_path / "decoded.onnx")
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a")
        good = bench_.path.read_text()
        for sections, said in refusals(tmp_path):
            bench_.change(**sections)
            assert said in bench_.reload("reload_refused")["detail"]
            assert bench_.until(lambda: any(said in line for line in bench_.daemon.log))  # noqa: B023
            bench_.path.write_text(good)
        for text in ("streams: [", "\x00", ""):
            bench_.path.write_text(text)
            assert "c.yaml" in bench_.reload("reload_refused")["detail"]
        bench_.path.unlink()
        assert "c.yaml" in bench_.reload("reload_refused")["detail"]
        bench_.path.write_text(good)
        assert bench_.reload()["detail"] == "no stream changed"
        assert bench_.more("a")
        assert bench_.untouched("a")
        assert len(bench_.daemon_events("model_failed")) == 3
        assert bench_.daemon.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("in_place", [False, True])
def test_another_model_takes_over_between_two_batches(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench], model: Path, in_place: bool
) -> None:
    """Also when it was put where the former one lay. Its input is another: nothing may be mixed up."""
    other = make_number_model(tmp_path / "other.onnx", burn=1, batch=1)
    streams = {name: dict(TEST) for name in "abc"}
    with bench(streams) as bench_:
        assert bench_.all_more(streams)
        assert bench_.until(lambda: len(bench_.statuses("model")) == 1)
        if in_place:
            shutil.copy(other, tmp_path / "fresh.onnx")
            (tmp_path / "fresh.onnx").rename(model)
        else:
            bench_.change(model={"path": str(other)})
        bench_.reload()
        assert bench_.all_more(streams)
        assert bench_.until(lambda: len(bench_.statuses("model")) == 2)
        balances(bench_)
        assert bench_.daemon.stop() == 0
    assert [m["event"] for m in bench_.reader.of("_daemon/events") if m["event"].startswith("model")] == [
        "model_building",
        "model_ready",
    ]
    for name in streams:
        results = bench_.results(name)
        assert bench_.untouched(name)
        models = [m["model"] for m in results]
        assert [a for a, b in itertools.pairwise(models) if a != b] == [models[0]]
        numbers = [number_of(m["objects"]) for m in results]
        assert None not in numbers
        assert [m["frame"] - m["seq"] for m in results] == sorted(m["dropped"] for m in results)
    assert bench_.statuses("model") == set(models)


def worker_threads(bench_: Bench) -> int:
    """How many threads run the worker. Ends the daemon: aborted, it says where each thread was."""
    bench_.daemon.stop(signal.SIGABRT)
    bodies = r"pipeline/worker\.py\", line \d+ in run$"
    return sum(re.search(bodies, line) is not None for line in bench_.daemon.log)


@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core runs one picture at a time")
def test_another_model_is_run_on_as_many_cores_as_after_a_start(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench]
) -> None:
    """One camera has all cores for each picture; for two the other model is made to run on a core each."""
    slow = make_number_model(tmp_path / "slow.onnx", burn=20)
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a")
        bench_.change(streams={"a": dict(TEST), "b": dict(TEST)}, model={"path": str(slow)})
        bench_.reload()
        assert bench_.more("b")
        balances(bench_)
        assert worker_threads(bench_) == 2
    assert bench_.untouched("a")


@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core runs one picture at a time")
def test_more_cameras_get_as_many_cores_as_after_a_start(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench]
) -> None:
    """The same model, made anew for them: nothing that is under way is lost."""
    slow = make_number_model(tmp_path / "slow.onnx", burn=20)
    with bench({"a": dict(TEST)}) as bench_:
        bench_.change(model={"path": str(slow)})
        bench_.reload()
        assert bench_.more("a")
        before = bench_.daemon.streams()["a"]["dropped"].get("model_changed", 0)
        bench_.change(streams={"a": dict(TEST), "b": dict(TEST)})
        bench_.reload()
        assert bench_.more("b")
        balances(bench_)
        assert bench_.daemon.streams()["a"]["dropped"].get("model_changed", 0) == before
        assert worker_threads(bench_) == 2
    assert bench_.untouched("a")


@pytest.mark.long
def test_a_model_of_another_shape_takes_over(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench]
) -> None:
    demo = Path(str(files("streamd") / "assets" / "demo.onnx"))
    with bench({"a": dict(TEST), "b": {**TEST, "url": "test:?rate=15&size=640x360"}}) as bench_:
        assert bench_.more("a")
        for _ in range(3):
            bench_.change(model={"path": str(demo)})
            bench_.reload()
            assert bench_.more("a", 3)
            assert bench_.more("b", 3)
            bench_.change(model={"path": str(tmp_path / "number.onnx")})
            bench_.reload()
            assert bench_.more("a", 3)
        balances(bench_)
        assert bench_.daemon.stop() == 0
    assert without_gaps(bench_.results("a"))
    assert without_gaps(bench_.results("b"))
    assert {m["model"].partition("@")[0] for m in bench_.results("a")} == {"number", "demo"}
    for message in bench_.results("a"):
        if message["model"].startswith("number@"):
            assert number_of(message["objects"]) is not None
        else:
            assert {o["class"] for o in message["objects"]} <= {"person", "vehicle"}


@pytest.mark.long
def test_the_password_that_was_mended_is_tried_at_once(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench]
) -> None:
    clip = make(tmp_path / "c.mp4", Clip(width=64, height=48, frames=50))
    with Camera(units_of(clip), Stream(rate=25), Login("viewer", "right")) as camera:
        wrong = {"url": camera.url, "username": "viewer", "password": "wr0ng-one"}
        with bench({"gate": wrong, "same": dict(TEST)}) as bench_:
            assert bench_.until(lambda: "lost" in bench_.events("gate"))
            bench_.change(streams={"gate": {**wrong, "password": "right"}, "same": dict(TEST)})
            started = time.monotonic()
            assert bench_.reload()["detail"] == "1 changed"
            assert bench_.more("gate", 1)
            # Refused passwords are tried again after a minute.
            assert time.monotonic() - started < 30
            assert without_gaps(bench_.results("same"))
            assert bench_.daemon.stop() == 0
        assert "wr0ng" not in "".join(bench_.daemon.log)
        assert "wr0ng" not in str(bench_.reader.messages)


@pytest.mark.long
def test_a_file_that_has_ended_plays_again_when_it_is_changed(
    tmp_path: Path, bench: Callable[[dict[str, Any]], Bench]
) -> None:
    clip = make(tmp_path / "c.mp4", Clip(frames=10))
    streams = {"film": {"url": str(clip), "pace": "fast"}, "same": dict(TEST)}
    with bench(streams) as bench_:
        assert bench_.until(lambda: "ended" in bench_.events("film") or bench_.more("same", 50))
        assert bench_.reload()["detail"] == "no stream changed"
        published = bench_.daemon.streams()["film"]["published"]
        assert published == 10
        streams["film"]["pace"] = "media"
        bench_.change(streams=streams)
        bench_.reload()
        assert bench_.until(lambda: [m["seq"] for m in bench_.results("film")][-10:] == list(range(10, 20)))
        assert bench_.daemon.stop() == 0


@pytest.mark.long
def test_fifty_reloads_under_load(bench: Callable[[dict[str, Any]], Bench]) -> None:
    streams = {name: dict(TEST) for name in ("same", "other")}
    with bench(streams) as bench_:
        assert bench_.more("same")
        for turn in range(50):
            extra = {f"x{turn % 3}": {**TEST, "url": f"test:?rate=20&size=64x48&gop={5 + turn}"}}
            bench_.change(streams={**streams, **extra})
            bench_.daemon.process.send_signal(signal.SIGHUP)
            if turn % 5 == 0:
                assert bench_.more("same", 2)
                balances(bench_)
        bench_.change(streams=streams)
        bench_.reload()
        assert bench_.until(lambda: bench_.daemon.streams().keys() == streams.keys())
        assert bench_.more("same")
        assert bench_.untouched("same")
        assert bench_.untouched("other")
        assert bench_.daemon.stop() == 0
        assert not bench_.daemon_events("reload_refused")
        added = [m for m in bench_.reader.of("/events") if m["event"] == "connecting" and "/x" in m["stream"]]
        assert not [m for m in added if m.get("replay")]


@pytest.mark.long
def test_a_hang_up_while_it_starts_is_served_after_the_start(tmp_path: Path) -> None:
    slow = make_number_model(tmp_path / "slow.onnx", burn=1500)
    running = Bench(tmp_path / "c.yaml", slow, {"a": {**TEST, "max_age_ms": None}})

    def knock() -> None:
        while not running.daemon.log:
            time.sleep(0.01)
        # It has told of the model and makes it run now.
        for _ in range(20):
            running.daemon.process.send_signal(signal.SIGHUP)

    thread = threading.Thread(target=knock)
    thread.start()
    with running:
        thread.join()
        assert running.until(lambda: bool(running.daemon_events("reloaded")))
        assert running.daemon.stop() == 0
