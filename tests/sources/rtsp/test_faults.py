"""What a camera can do wrong, and what is made of it: the right reason, or the right pictures all the same."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Reader, Tls, Transport, open_source
from streamd.sources.rtsp.connection import Connection
from streamd.sources.rtsp.target import target_of
from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Dress, Faults, Login, Stream, Units, units_of
from tests.support.rtsp_reading import Seen, decoded, fault_of, read_all, recorded, request_of, scripted

FRAMES, GOP = 36, 12
FAST = Stream(mtu=200, pace=False, loop=False)
PACED = Stream(mtu=200, rate=200, loop=False)
LONG = Stream(mtu=200, rate=100)
TCP, UDP = Transport.TCP, Transport.UDP
SLACK_S = 4.0
"""Over the time-out, for a machine that is busy."""


@dataclass(frozen=True)
class Film:
    units: Units
    pictures: list[bytes]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Film]:
    folder = tmp_path_factory.mktemp("film")
    clips = {
        name: make(folder / f"{name}.mp4", Clip(codec, frames=FRAMES, gop=GOP))
        for name, codec in {"h264": "libx264", "hevc": "libx265"}.items()
    }
    return {name: Film(units_of(clip), decoded(clip)) for name, clip in clips.items()}


@pytest.fixture(scope="module")
def film(films: dict[str, Film]) -> Film:
    return films["h264"]


def right(seen: Seen, film: Film) -> None:
    """All pictures are there, bit for bit."""
    assert len(seen.pictures) == len(film.pictures)
    wrong = [
        index
        for index, pair in enumerate(zip(seen.pictures, film.pictures, strict=True))
        if pair[0] != pair[1]
    ]
    assert wrong == []


def trusted_are_right(seen: Seen, film: Film) -> None:
    """Pictures that were not whole may be missing; what is not called corrupt is right, bit for bit."""
    assert len(film.pictures) - 6 <= len(seen.pictures) <= len(film.pictures)
    assert sum(not corrupt for corrupt in seen.corrupt) >= GOP
    for picture, corrupt, pts in zip(seen.pictures, seen.corrupt, seen.pts, strict=True):
        assert pts is not None
        assert corrupt or picture == film.pictures[round(pts * film.units.rate)]


def one_line(fault: SourceError) -> SourceError:
    text = str(fault)
    assert text.isprintable(), text
    assert 20 < len(text) < 400
    assert "secret" not in text
    return fault


def failing(camera: Camera, **options: Any) -> SourceError:
    """Its fault, which came in time."""
    timeout_s = options.setdefault("timeout_s", 0.5)
    started = time.monotonic()
    fault = one_line(fault_of(camera.url, **options))
    assert time.monotonic() - started < timeout_s + SLACK_S
    return fault


# -- the connection ------------------------------------------------------------------------------------


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


# -- redirects -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_redirect_is_followed(film: Film, method: str, folded: bool) -> None:
    with Camera(film.units, FAST, Login("viewer", "secret")) as there:
        faults = Faults(status={method: 302}, location=there.url, folded=folded)
        with Camera(film.units, FAST, faults=faults) as camera:
            right(read_all(camera.url, username="viewer", password="secret"), film)


def test_redirects_without_end(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(status={"DESCRIBE": 301}, location="self")) as camera:
        fault = failing(camera)
        assert fault.reason is Reason.ERROR
        assert "redirected more than 5 times" in str(fault)
        assert camera.connections == 6


@pytest.mark.parametrize(
    "location",
    [
        "http://u:secret@h/x",
        "u:secret@h",
        "//u:secret@h/",
        "/other",
        "rtsp://[",
        "x" * 3000,
        "file:///etc/passwd",
    ],
)
def test_redirects_to_nowhere(film: Film, location: str) -> None:
    with Camera(film.units, LONG, faults=Faults(status={"DESCRIBE": 302}, location=location)) as camera:
        assert failing(camera).reason is Reason.ERROR


def test_redirects_to_a_broken_host(film: Film) -> None:
    faults = Faults(status={"DESCRIBE": 302}, location="rtsp://a\0b/x")
    with Camera(film.units, LONG, faults=faults) as camera:
        assert failing(camera).reason is Reason.UNREACHABLE


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_credentials_stay_with_their_host(film: Film, scheme: str) -> None:
    login = Login("viewer", "secret", (scheme,), free=())
    with Camera(film.units, LONG, login) as there:
        location = there.url.replace("127.0.0.1", "localhost")
        with Camera(film.units, LONG, faults=Faults(status={"DESCRIBE": 302}, location=location)) as camera:
            fault = failing(camera, username="viewer", password="secret")
        assert fault.reason is Reason.AUTH
        assert there.requests
        assert not [request for request in there.requests if "authorization" in request.headers]


# -- logins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["basic", "digest", "digest-old", "digest-sha256"])
@pytest.mark.parametrize("free", [("OPTIONS",), ()])
def test_logins(film: Film, scheme: str, free: tuple[str, ...]) -> None:
    password = "p@s/s:w#o?r%d! é"
    login = Login("viewer", password, (scheme,), free=free, realm='a "b" \\ c')
    with Camera(film.units, FAST, login) as camera:
        right(read_all(camera.url, username="viewer", password=password), film)
        for wrong in ({}, {"username": "viewer", "password": "secret"}):
            fault = failing(camera, **wrong)
            assert fault.reason is Reason.AUTH


def test_stale_nonces_and_endless_refusals(film: Film) -> None:
    with Camera(film.units, FAST, Login("viewer", "secret", stale_after=1, free=())) as camera:
        right(read_all(camera.url, username="viewer", password="secret"), film)
    with Camera(film.units, FAST, Login("viewer", "secret", endless=True)) as camera:
        assert failing(camera, username="viewer", password="secret").reason is Reason.AUTH
        assert len(camera.denied) < 5


# -- packets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", ["none", "all"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("transport", [TCP, UDP])
def test_markers_that_say_nothing(
    films: dict[str, Film], codec: str, marker: str, transport: Transport
) -> None:
    film = films[codec]
    with Camera(film.units, PACED, faults=Faults(marker=marker)) as camera:  # type: ignore[arg-type]
        seen = read_all(camera.url, transport=transport)
    # Without the bit nothing tells whether the last one is whole.
    right(seen, replace(film, pictures=film.pictures[:-1]) if marker == "none" else film)
    assert not any(seen.corrupt[:-1])


@pytest.mark.parametrize("every", [1, 7, 10, 50])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_markers_that_are_wrong_now_and_then(films: dict[str, Film], codec: str, every: int) -> None:
    film = films[codec]
    faults = Faults(marker=lambda index, bit: bit != (index % every == every // 2))
    with Camera(film.units, FAST, faults=faults) as camera:
        seen = read_all(camera.url)
    trusted_are_right(seen, film)


@pytest.mark.parametrize("transport", [TCP, UDP])
@pytest.mark.parametrize(
    "faults",
    [
        Faults(sequence_jump=(15, 100)),
        Faults(sequence_jump=(15, -50)),
        Faults(sequence_jump=(15, 5000)),
        Faults(sequence_jump=(15, -5000)),
        Faults(ssrc_change=15),
    ],
    ids=["+100", "-50", "+5000", "-5000", "ssrc"],
)
def test_a_sender_that_begins_anew(film: Film, faults: Faults, transport: Transport) -> None:
    with Camera(film.units, PACED, faults=faults) as camera:
        seen = read_all(camera.url, transport=transport)
    # Number 15 may lack a beginning; the ones after it up to the keyframe 24 refer to it.
    assert [index for index, flag in enumerate(seen.corrupt) if flag] == list(range(15, 23))
    trusted = [picture for picture, corrupt in zip(seen.pictures, seen.corrupt, strict=True) if not corrupt]
    assert trusted == film.pictures[:15] + film.pictures[24:]


@pytest.mark.parametrize("ticks", [100_000, -100_000, 0x7FFF_0000])
def test_timestamps_that_jump(film: Film, ticks: int) -> None:
    with Camera(film.units, FAST, faults=Faults(timestamp_jump=(15, ticks))) as camera:
        seen = read_all(camera.url)
    right(seen, film)
    assert not any(seen.corrupt)


def test_packets_of_another_type_are_none_of_ours(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(payload_type=97)) as camera:
        assert failing(camera).reason is Reason.TIMEOUT


def test_sizes_that_cannot_be(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(frame_size=lambda _, size: size + 60_000)) as camera:
        assert failing(camera).reason in (Reason.TIMEOUT, Reason.CORRUPT)
    for wrong in (0, 3, 150):
        faults = Faults(frame_size=lambda index, size, wrong=wrong: wrong if index == 50 else size)  # type: ignore[misc]
        with Camera(film.units, FAST, faults=faults) as camera:
            seen = read_all(camera.url)
        trusted_are_right(seen, film)


@pytest.mark.parametrize("segment", [None, 7])
def test_a_server_that_asks_is_answered(film: Film, segment: int | None) -> None:
    methods = ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "PLAY_NOTIFY")
    faults = Faults(server_requests=methods, server_request_every=2, segment=segment)
    with Camera(film.units, replace(PACED, at_end="silence"), faults=faults) as camera:
        right(read_all(camera.url, most=FRAMES), film)
        answers = camera.answers
    # The last ones may not have been read.
    assert len(answers) > 10
    assert all(
        answer.startswith(b"RTSP/1.0 501" if b"CSeq: 5\r" in answer else b"RTSP/1.0 ") for answer in answers
    )
    assert sum(answer.startswith(b"RTSP/1.0 200") for answer in answers) > 8


@pytest.mark.parametrize("method", ["TEARDOWN", "REDIRECT"])
def test_a_server_that_takes_leave(film: Film, method: str) -> None:
    faults = Faults(server_requests=(method,), server_request_every=20)
    with Camera(film.units, replace(LONG, first_report_s=9), faults=faults) as camera:
        fault = failing(camera, timeout_s=2)
    assert fault.reason is Reason.EOF
    assert method in str(fault)


@pytest.mark.parametrize("login", [None, Login("viewer", "secret", stale_after=2)])
def test_the_session_is_kept_alive(film: Film, login: Login | None) -> None:
    stream = Stream(rate=20, timeout_s=2, expire="requests")
    with Camera(film.units, stream, login) as camera:
        seen = read_all(camera.url, most=120, username="viewer", password="secret")
    assert seen.fault is None
    assert len(seen.pictures) == 120


# -- transports ----------------------------------------------------------------------------------------


def test_blocked_udp(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(blocked_udp=True)) as camera:
        seen = read_all(camera.url, most=FRAMES, transport=UDP)
    right(seen, film)
    assert seen.notes == ("nothing came over UDP within 0.5 s; using TCP",)


@pytest.mark.parametrize("transport", [Transport.AUTO, UDP])
def test_blocked_udp_and_no_tcp(film: Film, transport: Transport) -> None:
    with Camera(film.units, LONG, faults=Faults(blocked_udp=True, refuse="tcp")) as camera:
        assert failing(camera, transport=transport).reason is Reason.TIMEOUT


def test_refused_transports(film: Film) -> None:
    with Camera(film.units, PACED, faults=Faults(refuse="tcp")) as camera:
        seen = read_all(camera.url)
        right(seen, film)
        assert seen.notes == ("the server refuses TCP; using UDP",)
        assert "transport: auto" in str(failing(camera, transport=TCP))
    with Camera(film.units, PACED, faults=Faults(refuse="udp")) as camera:
        assert "transport: auto" in str(failing(camera, transport=UDP))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_udp_out_of_order_and_twice(films: dict[str, Film], codec: str) -> None:
    film = films[codec]
    with Camera(film.units, PACED, faults=Faults(reorder=5, duplicate=0.2)) as camera:
        seen = read_all(camera.url, transport=UDP)
    right(seen, film)
    assert not any(seen.corrupt)


def test_no_udp_port_is_free(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError("no port")

    monkeypatch.setattr("streamd.sources.rtsp.datagrams._pair", none)
    with Camera(film.units, PACED) as camera:
        assert "transport: tcp" in str(failing(camera, transport=UDP))


def test_packets_that_come_with_the_answer_before_the_end(film: Film) -> None:
    """Everything in one piece, and then the connection ends."""
    with Camera(film.units, FAST) as camera:
        answers = recorded(camera)
    with scripted([answers]) as url:
        right(read_all(url), film)


# -- encryption ----------------------------------------------------------------------------------------

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    folder = tmp_path_factory.mktemp("certificates")

    def make_pair(name: str, *options: str) -> Pair:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        command += ["-subj", "/CN=camera", "-keyout", str(key), "-out", str(certificate), *options]
        subprocess.run(command, check=True, capture_output=True)
        return certificate, key

    return make_pair


OURS = ("-addext", "subjectAltName=IP:127.0.0.1")


def test_certificates(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("good", "-days", "2", *OURS)
    with Camera(film.units, FAST, tls=pair) as camera:
        fault = failing(camera)
        assert fault.reason is Reason.TLS
        assert "tls: {ca: ...} or {verify: false}" in str(fault)
        right(read_all(camera.url, tls=Tls(ca=str(pair[0]))), film)
        right(read_all(camera.url, tls=Tls(verify=False)), film)
        assert failing(camera, tls=Tls(ca=str(pair[1]))).reason is Reason.TLS
        assert failing(camera, tls=Tls(ca="/no/such/file")).reason is Reason.TLS


def test_a_certificate_of_another_host(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("other", "-days", "2", "-addext", "subjectAltName=DNS:elsewhere,IP:127.0.0.2")
    with Camera(film.units, FAST, tls=pair) as camera:
        assert failing(camera, tls=Tls(ca=str(pair[0]))).reason is Reason.TLS
        right(read_all(camera.url, tls=Tls(verify=False)), film)


_AUTHORITY = """
[ca]
default_ca = ours
[ours]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = names
[names]
subjectAltName = IP:127.0.0.1
[any]
commonName = supplied
"""


def test_a_certificate_of_yesteryear(film: Film, certified: Callable[..., Pair], tmp_path: Path) -> None:
    _, key = certified("expired", "-days", "2", *OURS)
    (tmp_path / "index.txt").touch()
    (tmp_path / "ca.cnf").write_text(_AUTHORITY)
    # Only `openssl ca` makes what has expired already.
    for command in (
        f"openssl req -new -key {key} -subj /CN=camera -out request.pem",
        f"openssl ca -batch -config ca.cnf -selfsign -keyfile {key} -in request.pem -out expired.pem -notext"
        " -startdate 20200101000000Z -enddate 20210101000000Z",
    ):
        subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    certificate = tmp_path / "expired.pem"
    with Camera(film.units, FAST, tls=(certificate, key)) as camera:
        fault = failing(camera, tls=Tls(ca=str(certificate)))
        assert fault.reason is Reason.TLS
        assert "expired" in str(fault)
        right(read_all(camera.url, tls=Tls(verify=False)), film)


def test_encryption_where_there_is_none(film: Film) -> None:
    with Camera(film.units, FAST) as camera:
        fault = one_line(fault_of(camera.url.replace("rtsp:", "rtsps:")))
    assert fault.reason in (Reason.TLS, Reason.TIMEOUT)


def test_encrypted_streams_stall_and_end(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("stalling", "-days", "2", *OURS)
    trusted = Tls(ca=str(pair[0]))
    cases: dict[Reason, list[Faults]] = {
        Reason.TIMEOUT: [Faults(stall_at="ACCEPT"), Faults(stall_at="SETUP"), Faults(stall_at="PLAYING")],
        Reason.EOF: [Faults(reset_at="SETUP"), Faults(close_at="SETUP"), Faults(close_at="PLAYING")],
        Reason.TLS: [Faults(reset_at="ACCEPT"), Faults(close_at="ACCEPT")],
    }
    for reason, rows in cases.items():
        for faults in rows:
            with Camera(film.units, LONG, faults=faults, tls=pair) as camera:
                assert failing(camera, tls=trusted).reason is reason, faults


def test_redirects_do_not_lead_out_of_encryption(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("redirecting", "-days", "2", *OURS)
    with Camera(film.units, FAST) as plain:
        faults = Faults(status={"DESCRIBE": 302}, location=plain.url)
        with Camera(film.units, FAST, faults=faults, tls=pair) as camera:
            fault = failing(camera, tls=Tls(ca=str(pair[0])))
        assert fault.reason is Reason.TLS
        assert "not be encrypted" in str(fault)
        assert plain.connections == 0


def test_an_address_of_any_bytes(film: Film) -> None:
    with Camera(film.units, replace(FAST, path="/camera")) as camera:
        with pytest.raises(SourceError) as caught:
            open_source(request_of(camera.url + "/\udcff"), threading.Event())
        assert one_line(caught.value).reason is Reason.NOT_FOUND
