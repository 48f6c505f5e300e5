"""Pictures of a real daemon: that they are the right ones, and that they cost the results nothing."""

from __future__ import annotations

import json
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest

from streamd import Pictures, pictures
from streamd.bus import wire
from streamd.core.errors import StreamdError
from streamd.core.picture import Layout, Matrix, Picture
from streamd.models.store import store_of
from streamd.service import daemon as daemon_module
from streamd.service.configured import describe_configured, runtime_options
from streamd.service.daemon import Daemon
from streamd.service.fleet import RunningModel
from streamd.service.host import Host
from streamd.service.loading import load
from streamd.service.render import JpegEncoder
from streamd.service.start import open_detector
from tests.bus.test_curve import Keys
from tests.bus.test_pictures import STUCK
from tests.support.clips import Clip, drawn, make, number_in
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow

ANY_PORT = "tcp://127.0.0.1:0"
FORMATS = {
    "plain": Clip(),
    "ten_bit": Clip(pix_fmt="yuv420p10le", matrix="bt2020"),
    "grey": Clip(pix_fmt="gray"),
    "nv12": Clip(codec="rawvideo", pix_fmt="nv12"),
    "full_range": Clip(codec="mjpeg", pix_fmt="yuvj422p", full_range=True),
    "bt709": Clip(matrix="bt709", pix_fmt="yuv444p"),
    "rgb": Clip(codec="ffv1", pix_fmt="bgr0"),
    "odd": Clip(codec="ffv1", width=321, height=243),
    "oblong": Clip(sar=Fraction(4, 3), width=240),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


def until(happened: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def metric(daemon: RunningDaemon, name: str, stream: str = "a") -> float:
    found = re.search(rf'^{name}{{[^}}]*stream="{stream}"[^}}]*}} (\S+)$', daemon.page("/metrics"), re.M)
    assert found, name
    return float(found[1])


def numbers_read(results: list[wire.ResultMessage]) -> list[int | None]:
    return [number_of([{"class": item.class_name} for item in result.objects]) for result in results]


def lying(path: Path, frames: int) -> Path:
    """A clip of 240 x 320 upright pictures that are stored on their side, to be turned by 90 degrees clockwise."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            stored = np.ascontiguousarray(np.rot90(drawn(number, 240, 320)))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        out.mux(stream.encode())
    whole = path.read_bytes()
    straight = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 240 << 16, 0, 1 << 30)
    at = whole.index(straight, whole.index(b"tkhd"))
    path.write_bytes(whole[:at] + turned + whole[at + len(turned) :])
    return path


def upright(path: Path, *, turn: bool) -> list[np.ndarray]:
    """All pictures as libav colours them, RGB."""
    with av.open(str(path)) as container:
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [np.rot90(picture, -1) for picture in found] if turn else found


@pytest.mark.long
def test_each_picture_is_the_upright_one_that_its_result_is_of(tmp_path: Path, model: Path) -> None:
    paths = {name: make(tmp_path / f"{name}.mkv", replace(clip, frames=20)) for name, clip in FORMATS.items()}
    paths["lying"] = lying(tmp_path / "lying.mp4", 20)
    streams = {name: {"url": str(path), "loop": True} for name, path in paths.items()}
    config = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": ANY_PORT, "frames_max_fps": 10}
    )
    with (
        RunningDaemon(config) as daemon,
        Reader(daemon.endpoint) as results,
        pictures(daemon.pictures, timeout_s=60) as shown,
    ):
        got: dict[str, list[tuple[wire.ResultMessage, bytes]]] = {name: [] for name in streams}
        while min(len(found) for found in got.values()) < 3:
            result, jpeg = next(shown)
            got[result.stream].append((result, jpeg))
        for name, found in got.items():
            originals = upright(paths[name], turn=name == "lying")
            for result, jpeg in found:
                picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                assert picture is not None
                height, width = picture.shape[:2]
                assert (width, height) == (result.width, result.height)
                number = number_in(picture[..., 1])
                assert number is not None
                assert numbers_read([result]) == [number]
                error = np.abs(picture[..., ::-1].astype(float) - originals[number]).mean()
                assert error < 5, f"{name}: mean error {error:.2f}/255"
                # The header is the very message of the topic of results.
                same = json.loads(wire.encode(result))
                assert results.wait(lambda messages, same=same: any(body == same for _, body in messages))
        assert (got["lying"][0][0].width, got["lying"][0][0].height) == (240, 320)
        assert got["oblong"][0][0].sar == "4:3"
        assert daemon.stop() == 0


@pytest.mark.long
def test_pictures_come_at_their_rate(tmp_path: Path, model: Path) -> None:
    streams = {"a": {"url": "test:?size=64x48&rate=50"}}
    config = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": ANY_PORT, "frames_max_fps": 5}
    )
    with RunningDaemon(config) as daemon, pictures(daemon.pictures, stream="a", timeout_s=60) as shown:
        got = [next(shown)[0] for _ in range(12)]
        # Each one late on a busy machine, or by a tenth of an interval early.
        for intervals, result in enumerate(got):
            assert (result.received_us - got[0].received_us) / 1000 >= intervals * 200 - 25
        assert metric(daemon, "streamd_results_published_total") > 5 * len(got)
        assert daemon.stop() == 0


@pytest.mark.long
def test_overload_does_not_starve_the_pictures(tmp_path: Path) -> None:
    """Most frames are dropped; whichever comes to a result has its picture when one is due."""
    slow = make_number_model(tmp_path / "slow.onnx", burn=300, batch=1)
    streams = {"a": {"url": "test:?size=64x48&rate=200", "max_age_ms": None}}
    config = write_config(
        tmp_path / "c.yaml", slow, streams, publish={"frames": ANY_PORT, "frames_max_fps": 60}
    )
    with (
        RunningDaemon(config) as daemon,
        Reader(daemon.endpoint, b"streamd/a/results") as results,
        pictures(daemon.pictures, timeout_s=60) as shown,
    ):
        next(shown)

        def offered() -> float:
            """Pictures that came with a result: a busy machine may encode fewer."""
            page = daemon.page("/metrics")
            kinds = r'sent_total\{stream="a"\}|dropped_total\{reason="overtaken",stream="a"\}'
            found = re.findall(rf"^streamd_pictures_(?:{kinds}) (\S+)$", page, re.M)
            assert len(found) == 2
            return sum(map(float, found))

        # Read first and last: what comes while the page is asked for is counted, and only more than needed.
        before, start, due = offered(), len(results.messages), 0
        # How many are due depends on how fast the model is here and now: so many results until there are some.
        for more in range(60, 600, 60):
            assert results.wait(lambda messages, more=more: len(messages) >= start + more)  # type: ignore[misc]
            end, after = len(results.messages), offered()
            times = [body["received_us"] for _, body in results.messages[start:end]]
            # With every result that is further from the one before it than the pictures' interval.
            due = sum(later - earlier > 2e6 / 60 for earlier, later in pairwise(times))
            if due > 10:
                break
        assert due > 10
        assert after - before >= due - 3  # what is on its way between the two readings
        assert daemon.streams()["a"]["dropped"]["ring_full"] > 20
        assert daemon.stop() == 0


@pytest.mark.long
def test_results_alone_cause_no_encode_and_a_subscriber_that_is_gone_ends_it(
    tmp_path: Path, model: Path
) -> None:
    streams = {name: {"url": "test:?size=64x48&rate=50"} for name in ("a", "b")}
    config = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": ANY_PORT, "frames_max_fps": 50}
    )

    def seen() -> float:
        return metric(daemon, "streamd_pictures_sent_total")

    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as results:
        assert results.wait(lambda _: len(results.of("a/results")) >= 50)
        page = daemon.page("/metrics")
        counters = re.findall(r"^streamd_pictures_\w+_total\{.*\} (\S+)$", page, re.M)
        assert counters == ["0.0"] * 6
        for _ in range(2):
            command = [sys.executable, "-c", STUCK, daemon.pictures, "streamd/a/"]
            before = seen()
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                until(lambda before=before: seen() > before + 10)
                process.kill()
            _until_still(seen)
        # Nobody asked for the other one.
        assert metric(daemon, "streamd_pictures_sent_total", "b") == 0
        assert daemon.stop() == 0


def _until_still(count: Callable[[], float]) -> None:
    """Wait until a counter that rose 50 times a second does not for a second."""
    deadline = time.monotonic() + 60
    before = count()
    while True:
        time.sleep(1)
        now = count()
        if now == before:
            return
        before = now
        assert time.monotonic() < deadline


@pytest.mark.long
def test_a_stuck_subscriber_slows_no_result_and_memory_stays(tmp_path: Path, model: Path) -> None:
    streams = {"a": {"url": "test:?size=1280x720&rate=20", "max_age_ms": None}}
    config = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": ANY_PORT, "frames_max_fps": 20}
    )
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint, b"streamd/a/results") as results:
        command = [sys.executable, "-c", STUCK, daemon.pictures, "streamd/"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "served\n"
            process.send_signal(signal.SIGSTOP)
            own = psutil.Process(daemon.process.pid)
            start = metric(daemon, "streamd_pictures_sent_total")
            sizes = []
            for step in range(1, 9):
                until(lambda step=step: metric(daemon, "streamd_pictures_sent_total") >= start + 20 * step)
                sizes.append(own.memory_info().rss / 1e6)
            process.kill()
        # 140 pictures: 190 MB of planes, 390 MB as BGR. What the kernel and two queues hold is there at the start.
        assert max(sizes) - sizes[0] < 60, sizes
        seqs = [body["seq"] for _, body in results.messages]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert len(seqs) >= 160
        assert daemon.page("/healthz") == "ok\n"
        assert daemon.stop() == 0


@pytest.mark.long
def test_an_endpoint_in_use_ends_with_one_line(tmp_path: Path, model: Path) -> None:
    streams = {"a": {"url": "test:?size=64x48"}}
    first = write_config(
        tmp_path / "c.yaml", model, streams, publish={"frames": f"ipc://{tmp_path}/pictures"}
    )
    with RunningDaemon(first) as daemon:
        command = [sys.executable, "-m", "streamd", "run", "-c", str(first)]
        second = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
        assert second.returncode == 1
        last = second.stderr.splitlines()[-1]
        assert f"publish.frames: ipc://{tmp_path}/pictures is in use" in last
        assert "Traceback" not in second.stderr
        with pictures(daemon.pictures, timeout_s=60) as shown:
            assert next(shown)[0].stream == "a"
        assert daemon.stop() == 0


@pytest.mark.long
def test_with_encryption_pictures_are_for_listed_clients_too(tmp_path: Path, model: Path) -> None:
    keys = Keys(tmp_path)
    streams = {"a": {"url": "test:?size=64x48"}}
    publish = {"frames": ANY_PORT, "frames_max_fps": 20, "curve": str(keys.folder)}
    config = write_config(tmp_path / "c.yaml", model, streams, publish=publish)

    def reader(name: str) -> Pictures:
        own, server = keys(name)
        return pictures(daemon.pictures, timeout_s=60, keys=own, server_key=server)

    with RunningDaemon(config) as daemon, reader("alice") as alice, reader("bob") as bob:
        for shown in (alice, bob):
            assert next(shown)[1].startswith(b"\xff\xd8")
        with reader("mallory") as mallory, pytest.raises(StreamdError, match="refused the key of mallory"):
            next(mallory)
        with (
            pictures(daemon.pictures, timeout_s=60) as plain,
            pytest.raises(StreamdError, match="is encrypted"),
        ):
            next(plain)
        # Taken off the list: cut off here as well, and the other one comes back by herself.
        (keys.folder / "clients" / "bob.key").unlink()
        daemon.process.send_signal(signal.SIGHUP)
        with pytest.raises(StreamdError, match="refused the key of bob"):
            list(bob)
        latest = next(alice)[0].seq
        while next(alice)[0].seq < latest + 100:
            pass
        assert daemon.stop() == 0


def test_a_crash_of_the_thread_ends_the_daemon(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("what nobody expected")

    monkeypatch.setattr(JpegEncoder, "__call__", broken)
    endpoint = f"ipc://{tmp_path}/pictures"
    streams = {"a": {"url": "test:?size=64x48"}}
    path = write_config(tmp_path / "c.yaml", model, streams, publish={"frames": endpoint})
    config = load(path)
    options = runtime_options(config)
    with (
        open_detector(describe_configured(config.model, store_of({}).path), options) as (detector, warm_ms),
        pictures(endpoint, timeout_s=1),
    ):
        daemon = Daemon(config, RunningModel(detector, warm_ms), Host(path))
        started = time.monotonic()
        with pytest.raises(RuntimeError, match="what nobody expected"):
            daemon.run()
        assert time.monotonic() - started < 30 + daemon_module.STOP_S
    assert daemon.stuck == []


def strip(width: int) -> Picture:
    """A grey picture 16 pixels high."""
    planes = (np.zeros((16, width), np.uint8),)
    return Picture(
        planes, Layout.GRAY, Matrix.BT601, True, 0, width, 16, None, None, 0, 0, None, True, False, planes
    )


def test_a_picture_that_no_jpeg_can_hold_is_told_once_and_keeps_no_other_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{message}")
    try:
        encode = JpegEncoder(80)
        assert encode("wide", strip(65_501)) is None
        assert encode("wide", strip(70_000)) is None
        empty = strip(16)
        empty.planes = (np.zeros((0, 16), np.uint8),)
        assert encode("empty", empty) is None
        assert (encode("wide", strip(65_500)) or b"").startswith(b"\xff\xd8")
    finally:
        logger.remove(sink)
    assert len(lines) == 2
    assert "wide: no picture of 65501x16 is sent: a JPEG holds at most 65500" in lines[0]
    assert lines[1].startswith("empty: ")
    assert "\n" not in lines[1].strip()
    assert "imencode" not in capfd.readouterr().err


def test_quality_is_as_asked(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    picture = replace(strip(64), planes=(noise,), height=64)
    coarse, fine = (len(JpegEncoder(quality)("a", picture) or b"") for quality in (10, 95))
    assert 0 < coarse < fine / 2


@pytest.mark.long
def test_streams_come_and_go_by_reload(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "c.yaml"
    publish = {"frames": ANY_PORT, "frames_max_fps": 20}
    one, other = {"a": {"url": "test:?size=64x48"}}, {"b": {"url": "test:?size=64x48"}}
    with (
        RunningDaemon(write_config(path, model, one, publish=publish)) as daemon,
        pictures(daemon.pictures, timeout_s=60) as shown,
    ):
        assert next(shown)[0].stream == "a"
        # Added again it is the same topic in another epoch. What was sent before may still be on its way.
        for streams, expected in ((one | other, ("b", 0)), (other, None), (one, ("a", 1))):
            write_config(path, model, streams, publish=publish)
            daemon.process.send_signal(signal.SIGHUP)
            until(lambda streams=streams: daemon.streams().keys() == streams.keys())
            while expected is not None:
                result, _ = next(shown)
                if (result.stream, result.epoch) == expected:
                    break
        assert daemon.stop() == 0


@pytest.mark.long
def test_without_the_endpoint_there_is_nothing_of_it(tmp_path: Path, model: Path) -> None:
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "test:?size=64x48"}})
    with RunningDaemon(config) as daemon:
        assert daemon.pictures == ""
        assert "streamd_pictures" not in daemon.page("/metrics")
        assert daemon.stop() == 0
