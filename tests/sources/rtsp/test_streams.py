"""What a camera can do wrong while it plays: the right reason, or the right pictures all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamd.core.errors import Reason
from streamd.sources import Transport
from tests.support.rtsp_camera import Camera, Faults, Login, Stream
from tests.support.rtsp_film import (
    FAST,
    FRAMES,
    LONG,
    PACED,
    TCP,
    UDP,
    Film,
    failing,
    right,
    trusted_are_right,
)
from tests.support.rtsp_reading import read_all, recorded, scripted

pytestmark = pytest.mark.slow

# -- packets -------------------------------------------------------------------------------------------


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("login", [None, Login("viewer", "secret", stale_after=2)])
def test_the_session_is_kept_alive(film: Film, login: Login | None) -> None:
    # Twice as long as the session would last, which is long enough for a machine that stands still for a second.
    stream = Stream(rate=40, timeout_s=4, expire="requests")
    with Camera(film.units, stream, login) as camera:
        seen = read_all(camera.url, most=320, username="viewer", password="secret")
    assert seen.fault is None
    assert len(seen.pictures) == 320


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
