"""Pictures of a real daemon: that they are the right ones, and as many as were asked for."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamd import pictures
from streamd.bus import wire
from tests.support.clips import Clip, drawn, make, number_in
from tests.support.daemon import RunningDaemon, metric, write_config
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
