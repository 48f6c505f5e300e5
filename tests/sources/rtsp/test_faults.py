"""What a server can do wrong before it plays: the right reason, or the right pictures all the same."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
from dataclasses import replace

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Reader, Transport
from streamd.sources.rtsp.connection import Connection
from streamd.sources.rtsp.target import target_of
from tests.support.rtsp_camera import Camera, Dress, Faults
from tests.support.rtsp_film import (
    FAST,
    FRAMES,
    LONG,
    PACED,
    TCP,
    UDP,
    Film,
    failing,
    one_line,
    right,
)
from tests.support.rtsp_reading import fault_of, read_all, request_of

pytestmark = pytest.mark.slow

# -- the connection ------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("step", ["ACCEPT", "OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PLAYING"])
@pytest.mark.parametrize("kind", ["stall_at", "reset_at", "close_at"])
@pytest.mark.parametrize("transport", [TCP, UDP])
def test_every_step_can_be_the_last(film: Film, step: str, kind: str, transport: Transport) -> None:
    faults = Faults(**{kind: step}, after_units=12)  # type: ignore[arg-type]
    with Camera(film.units, LONG, faults=faults) as camera:
        fault = failing(camera, transport=transport)
    assert fault.reason is (Reason.TIMEOUT if kind == "stall_at" else Reason.EOF)


def test_pictures_before_the_end_are_given(film: Film) -> None:
    for faults in (Faults(close_at="PLAYING"), Faults(stall_at="PLAYING"), Faults(half_packet="close")):
        with Camera(film.units, LONG, faults=faults) as camera:
            seen = read_all(camera.url, timeout_s=0.5)
        assert seen.pictures == film.pictures[:10]


def test_half_a_packet_and_silence_is_a_time_out(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(half_packet="silence")) as camera:
        assert failing(camera).reason is Reason.TIMEOUT


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert one_line(fault_of(f"rtsp://viewer:secret@127.0.0.1:{port}/")).reason is Reason.REFUSED
    assert one_line(fault_of("rtsp://viewer:secret@no-such-host.invalid/")).reason is Reason.UNREACHABLE
    assert one_line(fault_of("rtsp://viewer:secret@a\0b/")).reason is Reason.UNREACHABLE


@pytest.mark.long
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Reason.ERROR),
        (b"\x00\x01\x02\x03\xff\xfe" * 100, Reason.ERROR),
        (b"$\x00\x10\x00" * 300_000, Reason.ERROR),
        (b"\n\n\n\n\n\n", Reason.TIMEOUT),
        (b"RTSP/1.0 200 OK\r\n", Reason.TIMEOUT),
        (b"RTSP/1.0 453 \x0b\xe2\x80\xa8\x1b[31m\r\n\r\n", Reason.ERROR),
        (b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 99999999\r\n\r\n", Reason.ERROR),
        (b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 4\r\n\r\nnone", Reason.CODEC),
    ],
)
def test_what_is_no_rtsp(film: Film, said: bytes, reason: Reason) -> None:
    with Camera(film.units, LONG, faults=Faults(raw={"DESCRIBE": said})) as camera:
        assert failing(camera, timeout_s=1.5).reason is reason


@pytest.mark.parametrize("kind", ["header", "line", "body", "body-no-length"])
@pytest.mark.parametrize("drip_s", [0.0, 0.02])
def test_an_answer_without_end(film: Film, kind: str, drip_s: float) -> None:
    faults = Faults(endless={"DESCRIBE": kind}, drip_s=drip_s)  # type: ignore[dict-item]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Camera(film.units, faults=faults) as camera:
        assert failing(camera).reason in (Reason.ERROR, Reason.TIMEOUT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.long
@pytest.mark.parametrize(
    "challenge",
    [b"Digest " + b"a" * 60_000, b"x" + b" " * 60_000 + b"y", b"Basic " * 10_000, b'"Basic' * 9_000],
)
def test_an_endless_challenge_is_read_quickly(film: Film, challenge: bytes) -> None:
    said = b"RTSP/1.0 401 No\r\nCSeq: 2\r\nWWW-Authenticate: " + challenge + b"\r\n\r\n"
    with Camera(film.units, faults=Faults(raw={"DESCRIBE": said})) as camera:
        failing(camera, username="viewer", password="secret")


def test_sending_to_who_only_sends_ends() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        request = request_of(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.3)
        connection = Connection(target_of(request), request, stop)
        other, _ = listener.accept()
        with other:
            other.sendall(b"something to read")
            with pytest.raises(SourceError) as caught:
                connection.send(bytes(64 * 1024 * 1024))
        connection.close()
    assert caught.value.reason is Reason.TIMEOUT


# -- answers -------------------------------------------------------------------------------------------

STATUS = {
    404: Reason.NOT_FOUND,
    401: Reason.AUTH,
    403: Reason.AUTH,
    453: Reason.ERROR,
    454: Reason.ERROR,
    455: Reason.ERROR,
    503: Reason.ERROR,
    461: Reason.ERROR,
    302: Reason.ERROR,
}


@pytest.mark.long
@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP", "PLAY"])
@pytest.mark.parametrize("transport", [TCP, UDP])
def test_refusals(film: Film, method: str, transport: Transport) -> None:
    for status, reason in STATUS.items():
        with Camera(film.units, LONG, faults=Faults(status={method: status})) as camera:
            fault = failing(camera, transport=transport, username="viewer", password="secret")
        assert fault.reason is reason, status
        if status in (453, 503):
            assert "viewers" in str(fault)


def test_options_need_not_be_known(film: Film) -> None:
    with Camera(film.units, FAST, faults=Faults(status={"OPTIONS": 501})) as camera:
        right(read_all(camera.url), film)


HANDS = {
    "lower case": Faults(lower_case=True),
    "folded": Faults(folded=True),
    "odd space": Faults(odd_space=True),
    "bare LF": Faults(bare_lf=True),
    "all at once": Faults(lower_case=True, folded=True, bare_lf=True),
    "no number": Faults(cseq=lambda number: None),
    "number ahead": Faults(cseq=lambda number: number + 7),
    "number behind": Faults(cseq=lambda number: number - 1),
    "number 0": Faults(cseq=lambda number: 0),
    "pieces of a byte": Faults(segment=1),
    "pieces of 3": Faults(segment=3),
    "pieces of 40": Faults(segment=40),
    "coalesced": Faults(coalesce=20),
    "dressed": Faults(dress=Dress(padding=3, csrcs=15, extension=b"12345")),
    "garbage": Faults(garbage=b"non$ense\r\nRTSP/ hello $\0"),
    "garbage like frames": Faults(garbage=b"$\x05\xff\xff$$$$"),
    "garbage like an answer": Faults(garbage=b"RTSP/1.0 lorem ipsum dolor sit\r\n"),
    "no formats": Faults(sdp=lambda text: re.sub("a=fmtp.*\r\n", "", text)),
    "no controls": Faults(sdp=lambda text: re.sub("a=control.*\r\n", "", text)),
    "bad sprop": Faults(sdp=lambda text: re.sub(r"(sprop-[^=]*)=[^;\r]*", r"\1=Z0IA!5,AAAA,/////", text)),
}


@pytest.mark.parametrize("kind", list(HANDS))
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_odd_ways_that_work(films: dict[str, Film], codec: str, kind: str) -> None:
    film = films[codec]
    with Camera(film.units, FAST, faults=HANDS[kind]) as camera:
        seen = read_all(camera.url, timeout_s=3.0)
    right(seen, film)
    assert not any(seen.corrupt)
    assert seen.fault is not None
    assert seen.fault.reason is Reason.EOF


@pytest.mark.parametrize("control", ["relative", "absolute", "star", "query", "relative-query", "none"])
@pytest.mark.parametrize("base", ["{url}/", "{url}", None])
def test_control_addresses(film: Film, control: str, base: str | None) -> None:
    stream = replace(FAST, control=control, content_base=base, path="/live?channel=1&subtype=0")  # type: ignore[arg-type]
    with Camera(film.units, replace(stream, path="/live")) as camera:
        right(read_all(camera.url), film)
    if control in ("absolute", "star", "none"):
        with Camera(film.units, stream) as camera:
            right(read_all(camera.url), film)


@pytest.mark.parametrize("control", ["rtsp://[/", "/x[", "rtsp://127.0.0.1:99999/", "\x01", "//["])
def test_control_addresses_that_are_none(film: Film, control: str) -> None:
    faults = Faults(
        sdp=lambda text: re.sub("a=control.*", f"a=control:{control}", text),
        answer=lambda _, whole: whole.replace(b"Content-Base: rtsp://127", b"Content-Base: rtsp://[127"),
    )
    with Camera(film.units, LONG, faults=faults) as camera, contextlib.suppress(SourceError):
        read_all(camera.url, most=1)


@pytest.mark.parametrize("audio", ["before", "after"])
@pytest.mark.parametrize("transport", [TCP, UDP])
def test_sound_is_left_aside(film: Film, audio: str, transport: Transport) -> None:
    with Camera(film.units, replace(PACED, audio=audio), faults=Faults()) as camera:  # type: ignore[arg-type]
        right(read_all(camera.url, transport=transport), film)


def test_other_channels_than_asked(film: Film) -> None:
    with Camera(film.units, replace(FAST, channels=6)) as camera:
        right(read_all(camera.url), film)


def test_a_lost_session_is_named(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(session_header=False)) as camera:
        assert "454" in str(failing(camera))


def _renamed(codec: str) -> Faults:
    return Faults(sdp=lambda text: text.replace("H264/", f"{codec}/"))


UNKNOWN = {
    "MPEG-4": _renamed("MP4V-ES"),
    "unnamed": Faults(sdp=lambda text: re.sub("a=rtpmap.*\r\n", "", text)),
    "odd": _renamed("\x1b" + "x" * 500),
    "interleaved": Faults(sdp=lambda text: text.replace("mode=1", "mode=2")),
}


@pytest.mark.parametrize("kind", list(UNKNOWN))
def test_codecs_that_are_not_ours(film: Film, kind: str) -> None:
    with Camera(film.units, LONG, faults=UNKNOWN[kind]) as camera:
        fault = failing(camera)
    assert fault.reason is Reason.CODEC
    assert "reader: auto" in str(fault)


def test_libav_reads_what_is_not_ours(film: Film) -> None:
    with Camera(film.units, LONG, faults=UNKNOWN["interleaved"]) as camera:
        seen = read_all(camera.url, most=FRAMES, reader=Reader.AUTO)
    right(seen, film)
    assert seen.notes == ("read through libav: its pictures come interleaved (packetization-mode 2)",)
    with Camera(film.units, FAST, faults=UNKNOWN["unnamed"]) as camera:
        assert failing(camera, reader=Reader.AUTO).reason is Reason.CODEC


def test_without_video_there_is_nothing(film: Film) -> None:
    for faults in (
        Faults(sdp=lambda text: text.replace("m=video", "m=application")),
        Faults(sdp=lambda text: re.sub("m=video.*(?=m=audio)", "", text, flags=re.S)),
    ):
        with Camera(film.units, replace(LONG, audio="after"), faults=faults) as camera:
            fault = failing(camera)
        assert fault.reason is Reason.CODEC
        assert "only" in str(fault)
    with Camera(film.units, LONG) as camera:
        assert failing(camera, video=3).reason is Reason.NOT_FOUND
