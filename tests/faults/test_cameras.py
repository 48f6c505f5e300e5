"""Cameras that fail, each in its own way, and come back: told of in time, back in time, at nobody else's cost."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.rig import CLIP, Rig
from tests.support.clips import make
from tests.support.rtsp_camera import Camera, Faults, Login, Stream, Units, units_of
from tests.support.rtsp_server import Mount, serve

pytestmark = pytest.mark.long

STREAM = Stream(rate=25)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cameras") / "clip.mp4", CLIP)


@pytest.fixture(scope="module")
def units(clip: Path) -> Units:
    return units_of(clip)


def mount(clip: Path) -> Mount:
    return Mount("gate", width=160, height=120, clip=str(clip))


@pytest.mark.rtsp
@pytest.mark.usefixtures("gstreamer")
def test_a_server_that_is_killed_and_started_again(tmp_path: Path, clip: Path) -> None:
    with serve([mount(clip)]) as server, Rig(tmp_path, {"url": server.url("gate")}) as rig:
        rig.serves()
        fault = rig.fault("server killed, started again", server.kill)
        fault.told("lost", "eof", "refused")
        with contextlib.ExitStack() as stack:
            fault.mended(lambda: stack.enter_context(serve([mount(clip)], port=server.port)))
            fault.over()


@pytest.mark.rtsp
@pytest.mark.usefixtures("gstreamer")
def test_a_server_that_stands_still_and_goes_on(tmp_path: Path, clip: Path) -> None:
    with (
        serve([mount(clip)]) as server,
        Rig(tmp_path, {"url": server.url("gate"), "timeout_s": 4}) as rig,
    ):
        rig.serves()
        fault = rig.fault("server stopped (SIGSTOP), continued", server.freeze)
        fault.told("stalled", "timeout")
        fault.told("lost", "timeout")
        fault.mended(server.thaw)
        fault.over()


@pytest.mark.rtsp
@pytest.mark.usefixtures("gstreamer")
def test_another_resolution_comes_back(tmp_path: Path, clip: Path) -> None:
    larger = replace(CLIP, width=320, height=240)
    other = make(tmp_path / "larger.mp4", larger)
    with serve([mount(clip)]) as server, Rig(tmp_path, {"url": server.url("gate")}) as rig:
        rig.serves()
        fault = rig.fault("replaced by another resolution", server.kill)
        fault.told("lost")
        with contextlib.ExitStack() as stack:
            again = Mount("gate", width=320, height=240, clip=str(other))
            fault.mended(lambda: stack.enter_context(serve([again], port=server.port)))
            assert fault.told("reset", "size_changed")["detail"].endswith("from 160x120 to 320x240")
            fault.over()
            rig.serves()
        sizes = [(m["width"], m["height"]) for m in rig.results()]
        assert set(sizes) == {(160, 120), (320, 240)}
        assert sizes == sorted(sizes)
        for message in rig.results():
            assert all(o["box"][2] <= message["width"] for o in message["objects"])


def test_a_port_that_is_closed_and_opened(tmp_path: Path, units: Units) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Rig(tmp_path, {"url": f"rtsp://127.0.0.1:{port}/camera"}) as rig, contextlib.ExitStack() as stack:
        fault = rig.fault("port closed, then opened")
        fault.told("lost", "refused")
        fault.mended(lambda: stack.enter_context(Camera(units, STREAM, port=port)))
        fault.over()


def test_a_server_that_accepts_and_never_answers(tmp_path: Path, units: Units) -> None:
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = deaf.getsockname()[1]
        with Rig(tmp_path, {"url": f"rtsp://127.0.0.1:{port}/camera"}) as rig:
            fault = rig.fault("accepts and never answers")
            fault.told("lost", "timeout")

            def replaced() -> None:
                deaf.close()
                stack.enter_context(Camera(units, STREAM, port=port))

            fault.mended(replaced)
            fault.over()


ONCE = {
    "connection reset in mid-stream": (Faults(reset_at="PLAYING", after_units=40), ("eof",)),
    "connection closed in mid-stream": (Faults(close_at="PLAYING", after_units=40), ("eof",)),
    "half a picture, then the connection ends": (Faults(half_packet="close", after_units=50), ("eof",)),
    "half a keyframe, then silence": (Faults(half_packet="silence", after_units=50), ("timeout",)),
    "no picture any more, connection open": (Faults(stall_at="PLAYING", after_units=40), ("timeout",)),
    "reset at SETUP": (Faults(reset_at="SETUP"), ("eof",)),
    "503 at DESCRIBE": (Faults(status={"DESCRIBE": 503}), ("error", "refused", "not_found")),
    "answers nothing at PLAY": (Faults(stall_at="PLAY"), ("timeout",)),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_camera_that_fails_once(tmp_path: Path, units: Units, name: str) -> None:
    faults, reasons = ONCE[name]
    # A camera that a busy machine holds up for two seconds is no fault of this test's.
    timeout_s = 2 if "timeout" in reasons else 20
    with (
        Camera(units, STREAM, faults=faults, faulty_connections=1) as camera,
        Rig(tmp_path, {"url": camera.url, "timeout_s": timeout_s}) as rig,
    ):
        fault = rig.fault(name)
        fault.told("lost", *reasons)
        # The next connection finds a good camera.
        fault.mended()
        fault.over()


def test_garbage_between_the_packets_is_passed_over(tmp_path: Path, units: Units) -> None:
    rubbish = Faults(garbage=b"\x00\xff$$RT\r\n" * 9, garbage_every=5)
    with Camera(units, STREAM, faults=rubbish) as camera, Rig(tmp_path, {"url": camera.url}) as rig:
        rig.serves(40)
        rig.sound()
        assert rig.events()[-1]["event"] == "live"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_packets_that_are_lost_late_or_doubled(tmp_path: Path, units: Units, transport: str) -> None:
    """Half the time: no result of a damaged picture, what is lost is counted, and nobody else loses anything."""
    disorder = {"duplicate": 0.02, "reorder": 3} if transport == "udp" else {}
    faults = Faults(lose=0.01, seed=5, **disorder)  # type: ignore[arg-type]
    stream = replace(STREAM, mtu=300)
    victim = {"transport": transport}
    with Camera(units, stream, faults=faults) as camera, Rig(tmp_path, {"url": camera.url, **victim}) as rig:
        rig.serves(100)
        rig.sound()
        state = rig.daemon.streams()["victim"]
        assert state["dropped"].get("corrupt", 0) > 0
        metrics = rig.daemon.page("/metrics")
        lost = re.search(r'^streamd_packets_lost_total{stream="victim"} (.*)', metrics, re.M)
        assert lost
        assert float(lost[1]) > 0


def test_a_clock_that_jumps_is_told_of(tmp_path: Path, units: Units) -> None:
    stream = replace(STREAM, reports_s=0.2, clock_jump=(60, 3600.0))
    faults = Faults(timestamp_jump=(120, 90_000 * 500))
    with Camera(units, stream, faults=faults) as camera, Rig(tmp_path, {"url": camera.url}) as rig:
        rig.serves(130)
        resets = [m for m in rig.events() if m["event"] == "reset"]
        assert [m["reason"] for m in resets][:2] == ["clock_jump", "clock_jump"]
        assert len([m for m in rig.events() if m["event"] == "connecting"]) <= 1
        rig.sound()


@contextlib.contextmanager
def camera_with(units: Units, password: str, port: int = 0) -> Iterator[Camera]:
    with Camera(units, STREAM, Login("viewer", password), port=port) as camera:
        yield camera


@pytest.mark.soak
def test_a_password_that_is_wrong_until_somebody_mends_the_camera(tmp_path: Path, units: Units) -> None:
    """Knocked at once a minute at most: cameras lock accounts."""
    login = {"username": "viewer", "password": "right"}
    with contextlib.ExitStack() as stack:
        wrong = stack.enter_context(camera_with(units, "other"))
        with Rig(tmp_path, {"url": wrong.url, **login}) as rig:
            fault = rig.fault("wrong password, then right")
            fault.told("lost", "auth")
            time.sleep(5)
            # With the wrong one it is asked once, and once more with the challenge's nonce.
            assert len([r for r in wrong.requests if r.method == "DESCRIBE"]) <= 3
            port = wrong.port
            wrong.close()
            fault.mended(lambda: stack.enter_context(camera_with(units, "right", port)))
            fault.over()


@pytest.mark.soak
@pytest.mark.rtsp
@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize("reader", ["own", "libav"])
def test_a_server_that_dies_again_and_again(tmp_path: Path, clip: Path, reader: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve([mount(clip)]))
        port = server.port
        with Rig(tmp_path, {"url": server.url("gate"), "reader": reader}) as rig:
            for turn in range(6):
                rig.serves()
                fault = rig.fault(f"killed again ({reader}, {turn + 1})", server.kill)
                fault.told("lost")
                server = stack.enter_context(serve([mount(clip)], port=port))
                fault.mended()
                fault.over()
            assert len(rig.results()) > 50
