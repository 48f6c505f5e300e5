"""The daemon as a process of its own, with files: what arrives, what is dropped and counted, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


def results_of(reader: Reader, stream: str) -> list[dict[str, Any]]:
    return [m for topic, m in list(reader.messages) if topic == f"streamd/{stream}/results"]


def until(reader: Reader, stream: str, event: str, timeout_s: float = 60) -> bool:
    return reader.wait(
        lambda messages: any(m.get("stream") == stream and m.get("event") == event for _, m in messages),
        timeout_s,
    )


def late(path: Path) -> Path:
    """Where a clip will be put once the subscriber is there: a file that is missing is tried again."""
    return path.parent / f"coming-{path.name}"


def test_every_frame_of_files_arrives_once_and_in_order(tmp_path: Path, model: Path) -> None:
    paths = {name: make(tmp_path / f"{name}.mp4", Clip(frames=60, first=first)) for name, first in
             (("a", 0), ("b", 500), ("c", 900))}  # fmt: skip
    streams = {name: {"url": str(late(path)), "pace": "fast"} for name, path in paths.items()}
    config = write_config(tmp_path / "c.yaml", model, streams)
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert until(reader, "a", "lost")
        for path in paths.values():
            path.rename(late(path))
        for name in streams:
            assert until(reader, name, "ended")
        assert daemon.wait() == 0  # all files are done
        for name, first in (("a", 0), ("b", 500), ("c", 900)):
            got = results_of(reader, name)
            assert [number_of(m["objects"]) for m in got] == list(range(first, first + 60))
            assert [m["seq"] for m in got] == list(range(60))
            assert [m["frame"] for m in got] == list(range(60))
            assert {m["dropped"] for m in got} == {0}
            assert {m["clock"] for m in got} == {"file"}
            assert [m["pts"] for m in got] == pytest.approx([i / 25 for i in range(60)], abs=1e-6)


@pytest.mark.long
def test_a_clip_plays_at_its_own_pace(tmp_path: Path, model: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": str(clip), "loop": True}})
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint, b"streamd/a/results") as reader:
        assert reader.wait(lambda messages: len(messages) >= 60)
        first, last = (reader.messages[i][1] for i in (0, 59))
        media_s = 59 / 25
        # Slower than the clip on a busy machine is nobody's fault; faster would be ours.
        assert (last["received_us"] - first["received_us"]) / 1e6 >= 0.9 * media_s
        numbers = [number_of(m["objects"]) for _, m in reader.messages]
        start = numbers[0]
        assert start is not None
        assert numbers == [(start + i) % 50 for i in range(len(numbers))]
        assert daemon.stop() == 0


def test_overload_drops_and_every_sample_balances(tmp_path: Path) -> None:
    """Live streams far beyond what the model manages: counted, fair, fresh."""
    slow = make_number_model(tmp_path / "slow.onnx", burn=40, batch=1)
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    stream = {"url": str(clip), "intent": "live", "loop": True, "max_age_ms": 400}
    config = write_config(tmp_path / "c.yaml", slow, {name: dict(stream) for name in "abcd"})
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        samples = 0
        deadline = time.monotonic() + 60
        enough = False
        while not enough or samples <= 50:
            final = daemon.streams()
            assert time.monotonic() < deadline, final
            for state in final.values():
                total = state["published"] + sum(state["dropped"].values()) + state["in_flight"]
                assert state["decoded"] == total
                # In a ring of two, in the worker's batch of one, and in the decoder's hand.
                assert 0 <= state["in_flight"] <= 4
                samples += 1
            enough = all(
                state["published"] >= 20 and state["dropped"].get("ring_full", 0) > 0
                for state in final.values()
            )
        assert daemon.stop() == 0
        for name in final:
            got = results_of(reader, name)
            seqs = [m["seq"] for m in got]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            assert all(m["dropped"] == m["frame"] - m["seq"] for m in got)
            assert [m["frame"] for m in got] == sorted({m["frame"] for m in got})
            for message in got:
                at_post_ms = message["stages_ms"]["total"] - message["stages_ms"]["publish"]
                assert at_post_ms <= 400
        published = [state["published"] for state in final.values()]
        assert max(published) - min(published) <= max(3, 0.2 * max(published))


@pytest.mark.long
def test_max_fps_leaves_frames_out_by_media_time(tmp_path: Path, model: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=100))
    settings = {"url": str(late(clip)), "max_fps": 5, "pace": "fast"}
    config = write_config(tmp_path / "c.yaml", model, {"a": settings})
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert until(reader, "a", "lost")
        clip.rename(late(clip))
        assert daemon.wait() == 0
        numbers = [number_of(m["objects"]) for m in results_of(reader, "a")]
        assert numbers == list(range(0, 100, 5))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, model: Path, number: int) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    streams = {"a": {"url": str(clip), "loop": True}, "down": {"url": str(tmp_path / "none.mp4")}}
    config = write_config(tmp_path / "c.yaml", model, streams)
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert reader.wait(lambda messages: sum("results" in topic for topic, _ in messages) > 5)
        started = time.monotonic()
        assert daemon.stop(number) == 0
        assert time.monotonic() - started < 5  # the promise of the command, not a measurement
        assert until(reader, "a", "removed")
        assert any(m.get("event") == "stopping" for m in reader.of("_daemon/events"))


@pytest.mark.long
@pytest.mark.parametrize("loop", [False, True])
def test_a_file_may_be_live_and_still_ends_or_plays_on(tmp_path: Path, model: Path, loop: bool) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=10))
    config = write_config(
        tmp_path / "c.yaml", model, {"a": {"url": str(clip), "intent": "live", "loop": loop}}
    )
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        if loop:
            assert reader.wait(lambda _: len(reader.of("a/results")) >= 35)
            assert daemon.stop() == 0
        else:
            assert daemon.wait() == 0
        fresh = [m for m in reader.of("a/events") if not m.get("replay")]
        assert not [m for m in fresh if m["event"] == "lost"]
        # Each round is no news.
        assert len([m for m in fresh if m["event"] == "live"]) <= 1


@pytest.mark.long
def test_a_picture_in_a_loop_keeps_a_pace(tmp_path: Path, model: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=1))
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": str(clip), "loop": True}})
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint, b"streamd/a/results") as reader:
        assert reader.wait(lambda messages: len(messages) >= 20)
        first, last = (reader.messages[i][1]["received_us"] for i in (0, 19))
        assert (last - first) / 1e6 >= 0.9 * 19 / 25
        assert daemon.stop() == 0


@pytest.mark.long
def test_what_libav_says_is_in_the_log_at_debug_without_the_password(tmp_path: Path, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    camera = {
        "url": f"rtsp://127.0.0.1:{port}/x",
        "username": "viewer",
        "password": "hunter[2]@#",
        "reader": "libav",
    }
    config = write_config(tmp_path / "c.yaml", model, {"a": camera}, log={"level": "debug", "format": "json"})
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert until(reader, "a", "lost")
        assert daemon.stop() == 0
        lines = [json.loads(line) for line in daemon.log]
    assert [line for line in lines if line["level"] == "debug" and line["message"].startswith("libav")]
    assert "hunter" not in "".join(daemon.log)


@pytest.mark.long
def test_what_begins_anew_in_mid_stream_is_told_and_followed(tmp_path: Path, model: Path) -> None:
    url = "test:?rate=25&resize=1.5/320x240&clockjump=3/-60,4.5/600&end=6"
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": url, "max_age_ms": 5000}})
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert until(reader, "a", "lost")
        assert daemon.stop() == 0
    events = [m for m in reader.of("a/events") if not m.get("replay")]
    reasons = [m["reason"] for m in events if m["event"] == "reset"]
    assert reasons[:3] == ["size_changed", "clock_jump", "clock_jump"]
    assert events[-1]["event"] != "reset"
    results = results_of(reader, "a")
    sizes = [(m["width"], m["height"]) for m in results]
    assert sizes[-1] == (320, 240)
    assert all(number_of(m["objects"]) is not None for m in results)
    small = [m for m in results if m["width"] == 320]
    assert all(max(o["box"][2] for o in m["objects"]) <= 320 for m in small if m["objects"])


def test_status_and_events_are_published(tmp_path: Path, model: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    streams = {"a": {"url": str(clip), "loop": True}, "off": {"url": str(clip), "enabled": False},
               "down": {"url": str(tmp_path / "none.mp4")}}  # fmt: skip
    config = write_config(tmp_path / "c.yaml", model, streams)
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert reader.wait(
            lambda messages: any(
                m.get("schema") == "streamd.status/1" and m["streams"]["a"]["seq"] > 5 for _, m in messages
            )
        )
        status = reader.of("_daemon/status")[-1]
        assert status["streams"].keys() == {"a", "down"}
        assert status["streams"]["down"]["state"] in ("lost", "connecting")
        assert status["provider"] == "CPUExecutionProvider"
        lost = [m for m in reader.of("down/events") if m["event"] == "lost"]
        assert lost
        assert {m["reason"] for m in lost} == {"not_found"}
        numbers = [m["n"] for m in reader.of("/events") if not m.get("replay")]
        assert numbers == sorted(numbers)
        assert daemon.page("/healthz") == "ok\n"
        assert daemon.page("/readyz") == "ready\n"
        assert 'streamd_stream_up{stream="a"} 1.0' in daemon.page("/metrics")
        assert daemon.stop() == 0


@pytest.mark.long
def test_an_endpoint_in_use_ends_with_one_line(tmp_path: Path, model: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=50))
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": str(clip), "loop": True}})
    with RunningDaemon(config) as daemon:
        second = write_config(
            tmp_path / "d.yaml", model, {"a": {"url": str(clip)}}, publish={"bind": daemon.endpoint}
        )
        failed = RunningDaemon(second)
        with pytest.raises(AssertionError):
            failed.__enter__()
        assert failed.wait() == 1
        failed.__exit__()
        assert [line for line in failed.log if "is in use" in line]
        assert not [line for line in failed.log if "Traceback" in line]
        assert daemon.stop() == 0
