"""The camera's own clock: from its sender reports to `captured_us`."""

from __future__ import annotations

import itertools
import statistics
import struct
import threading
import time
from pathlib import Path

import pytest

from streamd.core.picture import Picture
from streamd.sources import Reader, SourceRequest, Transport, open_source
from streamd.sources.rtsp import rtcp
from streamd.sources.rtsp.rtp import Timeline
from tests.support import zmq_reader
from tests.support.clips import Clip, make, number_in
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.rtp_packets import sender_report
from tests.support.rtsp_camera import Camera, Stream, Units, units_of
from tests.support.rtsp_server import Mount, serve

pytestmark = pytest.mark.slow

RATE = 100
NEAR_US = 5_000
_SINCE_1900_S = 2_208_988_800


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clock") / "clip.mp4", Clip(width=64, height=48, frames=250))


@pytest.fixture(scope="module")
def units(clip: Path) -> Units:
    return units_of(clip)


def _pictures(url: str, count: int, transport: Transport = Transport.TCP) -> list[Picture]:
    request = SourceRequest(url, reader=Reader.OWN, transport=transport, timeout_s=5)
    with open_source(request, threading.Event()) as source:
        return list(itertools.islice(source.pictures(), count))


def _numbers(pictures: list[Picture]) -> list[int]:
    found = [number_in(picture.planes[0]) for picture in pictures]
    assert None not in found
    return [number for number in found if number is not None]


def _began_us(camera: Camera) -> float:
    """When unit 0 was due, in microseconds since 1970: a busy machine sends late, never early."""
    wall_us = (time.time_ns() - time.monotonic_ns()) / 1000
    return wall_us + min(row.sent_ns / 1000 - row.number * 1e6 / RATE for row in camera.sent)


@pytest.mark.long
@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UDP])
@pytest.mark.parametrize("offset_s", [0.0, 3600.0, -86_400.5])
def test_the_time_is_the_camera_s(units: Units, transport: Transport, offset_s: float) -> None:
    """Unit n is sent at n / RATE after the first, and by its own clock the camera says so."""
    stream = Stream(rate=RATE, reports_s=0.1, clock_offset_s=offset_s, timestamp_offset=2**32 - 30_000)
    with Camera(units, stream) as camera:
        pictures = _pictures(camera.url, 50, transport)
        # The camera writes down what it sent after it has: the picture may be here before.
        assert camera.until(lambda: len(camera.sent) >= 50)
        began_us = _began_us(camera)
    captured = [picture.captured_us for picture in pictures]
    # None is without: the first report comes before the first picture.
    away = [
        at_us - offset_s * 1e6 - began_us - number * 1e6 / RATE
        for number, at_us in zip(_numbers(pictures), captured, strict=True)
        if at_us is not None
    ]
    assert len(away) == 50
    assert max(map(abs, away)) < NEAR_US


def test_without_reports_there_is_none(units: Units) -> None:
    with Camera(units, Stream(rate=RATE, reports_s=None)) as camera:
        pictures = _pictures(camera.url, 30)
    assert {picture.captured_us for picture in pictures} == {None}


def test_before_the_first_report_there_is_none(units: Units) -> None:
    with Camera(units, Stream(rate=RATE, first_report_s=0.2)) as camera:
        pictures = _pictures(camera.url, 60)
    known = [picture.captured_us is not None for picture in pictures]
    assert known == sorted(known)
    assert known.index(True) == pytest.approx(0.2 * RATE, abs=3)


@pytest.mark.long
@pytest.mark.parametrize("jump_s", [0.5, -2.0, 3600.0])
def test_a_clock_that_is_set_is_followed(units: Units, jump_s: float) -> None:
    with Camera(units, Stream(rate=RATE, reports_s=0.05, clock_jump=(20, jump_s))) as camera:
        pictures = _pictures(camera.url, 150)
        began_us = _began_us(camera)
    ahead = [
        (picture.captured_us or 0) - began_us - number * 1e6 / RATE
        for number, picture in zip(_numbers(pictures), pictures, strict=True)
    ]
    assert statistics.median(ahead[:18]) == pytest.approx(0, abs=NEAR_US)
    # From the first report after the jump on, which comes within 0.05 s: many more pictures on a busy machine,
    # where the camera catches up in a burst.
    assert statistics.median(ahead[100:]) == pytest.approx(jump_s * 1e6, abs=NEAR_US)


@pytest.mark.parametrize("unix_s", [-_SINCE_1900_S, -_SINCE_1900_S + 86_400, 0, 3600 * 24 * 365])
def test_a_clock_that_was_never_set_is_none(unix_s: float) -> None:
    (report,) = rtcp.parse(sender_report(7, unix_s, 90_000, 1, 1))
    assert isinstance(report, rtcp.SenderReport)
    assert report.at_us is None
    assert (report.ssrc, report.timestamp) == (7, 90_000)


def test_an_unset_clock_gives_pictures_no_time(units: Units) -> None:
    offset_s = -time.time()  # it began to count when it was switched on: 1970
    with Camera(units, Stream(rate=RATE, reports_s=0.05, clock_offset_s=offset_s)) as camera:
        assert {picture.captured_us for picture in _pictures(camera.url, 30)} == {None}


def test_a_report_made_by_hand() -> None:
    half = 1 << 31
    packet = struct.pack("!BBHIIIIII", 0x80, 200, 6, 5, _SINCE_1900_S + 1_700_000_000, half, 450_000, 0, 0)
    (report,) = rtcp.parse(packet)
    assert isinstance(report, rtcp.SenderReport)
    assert report.at_us == 1_700_000_000_500_000
    assert report.ntp_middle == ((_SINCE_1900_S + 1_700_000_000) & 0xFFFF) << 16 | 0x8000


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("start", [0, 90_000, 2**31, 2**32 - 1000])
def test_the_time_of_a_timestamp_across_its_wraps(start: int, early: bool) -> None:
    """The report may come before the first packet, and be of a time before or after it."""
    for ahead in (-9_000, 0, 9_000):
        timeline = Timeline(90_000)
        if early:
            timeline.reported(start + ahead & 0xFFFFFFFF, 1_000_000_000)
        place = timeline.unwrapped(start)
        if not early:
            assert timeline.captured_us(place) is None
            timeline.reported(start + ahead & 0xFFFFFFFF, 1_000_000_000)
        assert timeline.pts(place) == 0
        for seconds in range(0, 60_000, 10_000):
            place = timeline.unwrapped(start + seconds * 90_000 & 0xFFFFFFFF)
            assert timeline.pts(place) == seconds
            assert (
                timeline.captured_us(place)
                == 1_000_000_000 + seconds * 1_000_000 - ahead * 1_000_000 // 90_000
            )


@pytest.mark.long
@pytest.mark.rtsp
@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UDP])
def test_gstreamer_s_clock(clip: Path, transport: Transport) -> None:
    """Its pictures are 20 ms apart by its own clock, which is ours. How near: the tests above, with a camera that
    says when it sent; this one encodes as it sends, and a busy machine bends the clock that it does so by."""
    known: list[Picture] = []
    with serve([Mount("gate", width=64, height=48, rate=50)]) as server:
        request = SourceRequest(server.url("gate"), reader=Reader.OWN, transport=transport)
        with open_source(request, threading.Event()) as source:
            for picture in itertools.islice(source.pictures(), 1000):
                if picture.captured_us is not None:
                    known.append(picture)
                if len(known) == 40:
                    break
    assert len(known) == 40
    delays = [picture.received_us - (picture.captured_us or 0) for picture in known]
    assert abs(statistics.median(delays)) < 1_000_000
    steps = [(b.captured_us or 0) - (a.captured_us or 0) for a, b in itertools.pairwise(known)]
    assert steps == pytest.approx([20_000] * len(steps), abs=NEAR_US)


@pytest.mark.long
def test_the_daemon_s_results_tell_the_camera_s_time(tmp_path: Path, units: Units) -> None:
    model = make_number_model(tmp_path / "number.onnx")
    with (
        Camera(units, Stream(rate=25, reports_s=0.2, clock_offset_s=1000)) as camera,
        Camera(units, Stream(rate=25, reports_s=None)) as silent,
    ):
        streams = {
            name: {"url": url, "reader": "own", "max_age_ms": 5000}
            for name, url in (("gate", camera.url), ("yard", silent.url))
        }
        config = write_config(tmp_path / "c.yaml", model, streams)
        with RunningDaemon(config) as daemon, zmq_reader.Reader(daemon.endpoint) as reader:
            assert reader.wait(lambda _: min(len(reader.of(f"{name}/results")) for name in streams) >= 10)
            assert daemon.stop() == 0
        first = camera.sent[0].sent_ns
    wall_us = (time.time_ns() - time.monotonic_ns()) / 1000 + 1e9
    told = reader.of("gate/results")
    assert {message["clock"] for message in told} == {"rtcp"}
    away = [message["captured_us"] - message["pts"] * 1e6 - wall_us - first / 1000 for message in told]
    # The camera's own account of when it began is late by as much as this machine is: the shift told of is 1000 s.
    assert abs(statistics.median(away)) < 20 * NEAR_US
    for message in reader.of("yard/results"):
        assert message["clock"] == "arrival"
        assert "captured_us" not in message
