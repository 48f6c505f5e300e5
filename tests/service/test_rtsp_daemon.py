"""The daemon on real RTSP cameras: GStreamer's server in a process of its own."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.rtsp_server import Access, Mount, serve
from tests.support.zmq_reader import Reader

pytestmark = [pytest.mark.rtsp, pytest.mark.usefixtures("gstreamer"), pytest.mark.slow]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "numbers.mp4", Clip(frames=250))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


@pytest.mark.long
def test_four_cameras_and_a_file_in_one_daemon(tmp_path: Path, clip: Path, model: Path) -> None:
    mounts = [Mount(name, clip=str(clip)) for name in ("gate", "yard", "dock")]
    mounts.append(Mount("roof", codec="h265", clip=str(clip)))
    with serve(mounts) as server:
        streams = {mount.name: {"url": server.url(mount.name), "max_age_ms": 5000} for mount in mounts}
        streams["yard"]["transport"] = "udp"
        streams["archive"] = {"url": str(clip), "loop": True}
        config = write_config(tmp_path / "c.yaml", model, streams)
        with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
            assert reader.wait(
                lambda messages: all(
                    sum(topic == f"streamd/{name}/results" for topic, _ in messages) >= 50 for name in streams
                ),
                timeout_s=60,
            )
            process = psutil.Process(daemon.process.pid)
            assert process.num_threads() >= len(streams) + 3
            started = time.monotonic()
            assert daemon.stop(signal.SIGTERM) == 0
            assert time.monotonic() - started < 5
            assert not process.is_running()
        for name in streams:
            got = [m for topic, m in reader.messages if topic == f"streamd/{name}/results"]
            seqs = [m["seq"] for m in got]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), name
            assert all(m["dropped"] == m["frame"] - m["seq"] for m in got)
            numbers = [number_of(m["objects"]) for m in got]
            assert None not in numbers, name
            # Each result is of the picture it says: frame numbers and drawn numbers go on together.
            steps = {
                ((b - a) % 250, (after["frame"] - before["frame"]) % 250)
                for (a, before), (b, after) in zip(
                    zip(numbers, got, strict=True), zip(numbers[1:], got[1:], strict=True), strict=False
                )
                if a is not None and b is not None
            }
            assert all(drawn == counted for drawn, counted in steps), (name, steps)


def test_a_camera_that_is_down_comes_and_one_that_dies_comes_back(
    tmp_path: Path, clip: Path, model: Path
) -> None:
    with serve([Mount("gate", clip=str(clip))]) as stable, serve([Mount("yard", clip=str(clip))]) as dying:
        streams = {
            "gate": {"url": stable.url("gate"), "max_age_ms": 5000},
            "yard": {"url": dying.url("yard"), "max_age_ms": 5000, "timeout_s": 2},
            "wrong": {"url": stable.url("nowhere")},
        }
        config = write_config(tmp_path / "c.yaml", model, streams)
        with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:

            def came(name: str, least: int) -> bool:
                return reader.wait(
                    lambda messages: sum(t == f"streamd/{name}/results" for t, _ in messages) >= least, 60
                )

            def happened(name: str, event: str, reason: str | None = None) -> bool:
                return reader.wait(
                    lambda messages: any(
                        m.get("stream") == name and m.get("event") == event and m.get("reason") == reason
                        for _, m in messages
                    ),
                    60,
                )

            assert came("yard", 10)
            assert happened("wrong", "lost", "not_found")
            dying.kill()
            assert reader.wait(
                lambda messages: any(
                    m.get("stream") == "yard" and m.get("event") == "lost" for _, m in messages
                ),
                60,
            )
            before = len(reader.of("yard/results"))
            with serve([Mount("yard", clip=str(clip))], port=dying.port):
                assert came("yard", before + 10)
                yard = [m["seq"] for m in reader.of("yard/results")]
                assert yard == list(range(yard[0], yard[0] + len(yard)))
                gate = [m["seq"] for m in reader.of("gate/results")]
                assert gate == list(range(gate[0], gate[0] + len(gate)))
                assert not [m for m in reader.of("gate/events") if m["event"] in ("lost", "stalled")]
                assert daemon.stop() == 0


@pytest.mark.long
def test_a_wrong_password_is_told_of_and_never_shown(tmp_path: Path, clip: Path, model: Path) -> None:
    secret = "p@ss:w/rd?#%41"
    with serve([Mount("gate", clip=str(clip))], Access("viewer", secret, "digest")) as server:
        login = {"username": "viewer", "password": "${env:GATE_PASSWORD}"}
        wrong = {"username": "viewer", "password": "hunter2-wrong"}
        streams = {"gate": {"url": server.url("gate"), **login, "max_age_ms": 5000},
                   "wrong": {"url": server.url("gate"), **wrong}}  # fmt: skip
        config = write_config(tmp_path / "c.yaml", model, streams, log={"level": "debug"})
        with (
            RunningDaemon(config, {"GATE_PASSWORD": secret}) as daemon,
            Reader(daemon.endpoint) as reader,
        ):
            assert reader.wait(
                lambda messages: (
                    any(t == "streamd/gate/results" for t, _ in messages)
                    and any(m.get("stream") == "wrong" and m.get("reason") == "auth" for _, m in messages)
                ),
                60,
            )
            shown = daemon.page("/metrics") + daemon.page("/streams")
            shown += " ".join(psutil.Process(daemon.process.pid).cmdline())
            assert daemon.stop() == 0
        shown += "\n".join(daemon.log) + str(reader.messages)
        assert secret not in shown
        assert "hunter2-wrong" not in shown
        assert "hunter2" not in shown
