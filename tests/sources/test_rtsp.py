"""RTSP through both readers, against GStreamer's server."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Reader, SourceRequest, Transport, open_source
from streamd.sources.probing import Authentication, probe
from tests.support.clips import Clip, make, number_in
from tests.support.rtsp_server import Access, Mount, Server, serve

pytestmark = pytest.mark.slow

USER, PASSWORD = "viewer", "p@s/s:w#o?r%d! é"


@pytest.fixture(scope="module")
def server(gstreamer: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    clip = str(make(tmp_path_factory.mktemp("rtsp") / "numbers.mp4", Clip(frames=50)))
    with serve([Mount("gate", clip=clip), Mount("yard", codec="h265", clip=clip)]) as running:
        yield running


@pytest.fixture(params=[Reader.OWN, Reader.LIBAV])
def reader(request: pytest.FixtureRequest) -> Reader:
    assert isinstance(request.param, Reader)
    return request.param


def failure(request: SourceRequest) -> SourceError:
    with pytest.raises(SourceError) as caught, open_source(request, threading.Event()) as source:
        list(source.pictures())
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "%40" not in str(caught.value)
    return caught.value


@pytest.mark.long
@pytest.mark.rtsp
@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("mount", ["gate", "yard"])
def test_pictures_come_in_order_with_their_arrival(
    server: Server, mount: str, transport: Transport, reader: Reader
) -> None:
    request = SourceRequest(server.url(mount), transport=transport, threads=4, reader=reader)
    with open_source(request, threading.Event()) as source:
        assert (source.live, source.clock) == (True, "arrival")
        assert (source.width, source.height) == (320, 240)
        assert source.codec == {"gate": "h264", "yard": "hevc"}[mount]
        pictures = list(itertools.islice(source.pictures(), 12))
    numbers = [number_in(picture.planes[0]) for picture in pictures]
    assert None not in numbers
    assert numbers == [(numbers[0] + step) % 50 for step in range(12)]  # type: ignore[operator]
    assert pictures[0].keyframe
    assert pictures[0].pts == (None if reader is Reader.LIBAV else 0)  # libav has none for the first one
    arrivals = [picture.received_ns for picture in pictures]
    assert arrivals == sorted(arrivals)
    assert abs(pictures[-1].received_us / 1e6 - time.time()) < 60


@pytest.mark.long
@pytest.mark.rtsp
def test_a_probe_measures_the_stream(server: Server, reader: Reader) -> None:
    found = probe(SourceRequest(server.url("gate"), reader=reader), threading.Event())
    assert (found.codec, found.width, found.height, found.live) == ("h264", 320, 240, True)
    # The server encodes while it sends: on a busy machine it keeps its rate for seconds no better than this.
    assert found.rate == pytest.approx(25, rel=0.5)
    assert found.keyframe_interval_frames == 25
    assert found.authentication is Authentication.NOT_NEEDED
    assert found.first_picture_s > 0


@pytest.mark.rtsp
def test_a_path_that_is_not_there(server: Server, reader: Reader) -> None:
    assert failure(SourceRequest(server.url("nothing"), reader=reader)).reason is Reason.NOT_FOUND


@pytest.mark.long
@pytest.mark.rtsp
@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_passwords_with_every_kind_of_sign(gstreamer: None, scheme: str, reader: Reader) -> None:
    with serve([Mount("gate")], Access(USER, PASSWORD, scheme)) as server:
        url = server.url("gate")
        for username, password in ((None, None), (USER, "wrong" + PASSWORD)):
            assert (
                failure(SourceRequest(url, username=username, password=password, reader=reader)).reason
                is Reason.AUTH
            )
        found = SourceRequest(url, username=USER, password=PASSWORD, reader=reader)
        with open_source(found, threading.Event()) as source:
            assert next(source.pictures()).width == 320


@pytest.mark.rtsp
def test_a_server_that_dies_is_an_end_and_a_stop_is_none(gstreamer: None, reader: Reader) -> None:
    stop = threading.Event()
    with serve([Mount("gate")]) as server:
        with open_source(SourceRequest(server.url("gate"), reader=reader), stop) as source:
            for _ in source.pictures():
                stop.set()
        stop.clear()
        with open_source(SourceRequest(server.url("gate"), timeout_s=2, reader=reader), stop) as source:
            pictures = source.pictures()
            next(pictures)
            server.kill()
            with pytest.raises(SourceError) as caught:
                list(pictures)
    assert caught.value.reason is Reason.EOF


@pytest.mark.rtsp
def test_a_transport_that_is_not_offered_is_said(gstreamer: None, reader: Reader) -> None:
    with serve([Mount("gate")], Access(transports="udp")) as server:
        assert "transport: auto" in str(
            failure(SourceRequest(server.url("gate"), transport=Transport.TCP, reader=reader))
        )
    # Another server: this one may still be letting go of the picture that was just refused.
    with (
        serve([Mount("gate")], Access(transports="udp")) as server,
        open_source(SourceRequest(server.url("gate"), reader=reader), threading.Event()) as source,
    ):
        assert next(source.pictures()).height == 240


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_says_nothing_is_a_timeout(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/a"
        error = failure(SourceRequest(url, username=USER, password=PASSWORD, timeout_s=0.5))
    assert error.reason is Reason.TIMEOUT


def test_nobody_there_and_no_such_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert failure(SourceRequest(f"rtsp://127.0.0.1:{port}/a")).reason is Reason.REFUSED
    unknown = failure(SourceRequest("rtsp://no-such-host.invalid/a", username=USER, password=PASSWORD))
    assert unknown.reason is Reason.UNREACHABLE


def test_credentials_longer_than_libav_takes_are_refused_by_name() -> None:
    error = failure(
        SourceRequest("rtsp://127.0.0.1:9/a", username=USER, password="x" * 130, reader=Reader.LIBAV)
    )
    assert error.reason is Reason.AUTH
    assert "127 bytes" in str(error)


@pytest.mark.long
@pytest.mark.rtsp
def test_a_server_that_falls_silent_is_told_of_after_one_time_out(gstreamer: None, reader: Reader) -> None:
    """Nor does the picture that libav held back meanwhile pass for a new one."""
    with serve([Mount("gate")]) as frozen:
        request = SourceRequest(frozen.url("gate"), transport=Transport.TCP, timeout_s=3, reader=reader)
        with open_source(request, threading.Event()) as source:
            pictures = source.pictures()
            last = [next(pictures) for _ in range(10)]
            frozen.freeze()
            started = time.monotonic()
            with pytest.raises(SourceError) as caught:
                last.extend(pictures)
    assert caught.value.reason is Reason.TIMEOUT
    assert time.monotonic() - started < 2 * request.timeout_s - 0.5
    assert last[-1].received_ns / 1e9 < started + 2
