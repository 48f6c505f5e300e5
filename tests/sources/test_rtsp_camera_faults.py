"""The tests' own camera misbehaves exactly as it is told to, seen by a client of a few lines."""

from __future__ import annotations

import hashlib
import itertools
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Faults, Login, Stream, Units, units_of

pytestmark = pytest.mark.slow

FAST = Stream(mtu=200, pace=False, loop=False, first_sequence=65_530, timestamp_offset=0, reports_s=None)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Units:
    return units_of(make(tmp_path_factory.mktemp("camera") / "clip.mp4", Clip(frames=30)))


class Client:
    """Asks, and reads what comes."""

    def __init__(self, camera: Camera) -> None:
        self.url = camera.url
        self._sock = socket.create_connection(("127.0.0.1", camera.port), timeout=5)
        self._read = self._sock.makefile("rb")
        self._count = 0
        self.session = ""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._read.close()
        self._sock.close()

    def wait(self, seconds: float) -> None:
        self._sock.settimeout(seconds)

    def ask(self, method: str, url: str = "", **headers: str) -> None:
        self._count += 1
        rows = {"CSeq": str(self._count), **({"Session": self.session} if self.session else {}), **headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in rows.items())
        self._sock.sendall(f"{method} {url or self.url} RTSP/1.0\r\n{text}\r\n".encode())

    def answer(self) -> tuple[int, str, bytes]:
        head = b""
        while not head.endswith((b"\r\n\r\n", b"\n\n")):
            piece = self._read.readline()
            if not piece:
                raise EOFError
            head += piece
        text = head.decode()
        length = re.search(r"content-length:\s*(\d+)", text, re.IGNORECASE)
        return int(text.split(" ")[1]), text, self._read.read(int(length[1]) if length else 0)

    def exchange(self, method: str, url: str = "", **headers: str) -> tuple[int, str, bytes]:
        self.ask(method, url, **headers)
        return self.answer()

    def play(self, transport: str = "RTP/AVP/TCP;unicast;interleaved=0-1") -> None:
        code, head, _ = self.exchange("SETUP", f"{self.url}/trackID=0", Transport=transport)
        assert code == 200
        self.session = re.findall(r"Session: (\w+)", head)[0]
        assert self.exchange("PLAY")[0] == 200

    def read(self, size: int) -> bytes:
        return self._read.read(size)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        while head := self._read.read(4):
            assert head[:1] == b"$", head
            yield head[1], self._read.read(int.from_bytes(head[2:], "big"))

    def headers(self) -> list[tuple[int, int, int, int, int]]:
        """Of the RTP packets of video to come: first byte, type with marker, sequence, timestamp, SSRC."""
        return [struct.unpack(">BBHII", packet[:12]) for channel, packet in self.frames() if channel == 0]


def test_marker_loss_and_numbers(units: Units) -> None:
    faults = Faults(
        lose=lambda index: index == 2,
        sequence_jump=(10, 1000),
        timestamp_jump=(12, 90_000),
        ssrc_change=20,
        payload_type=97,
    )
    with Camera(units, FAST, faults=faults) as camera, Client(camera) as client:
        client.play()
        rows = client.headers()
        sent = camera.sent
    assert sum(row.lost for row in sent) == 1
    assert sum(row.packets for row in sent) == len(rows) + 1
    assert {row[1] & 127 for row in rows} == {97}
    sequences = [row[2] for row in rows]
    steps = [(b - a) & 0xFFFF for a, b in itertools.pairwise(sequences)]
    assert sequences[0] == 65_530
    assert steps.count(2) == 1
    assert steps.count(1001) == 1
    assert len({row[4] for row in rows}) == 2
    ticks = [row.timestamp for row in sent]
    steps = [b - a for a, b in itertools.pairwise(ticks[:20])]
    assert steps == [3600] * 11 + [93_600] + [3600] * 7


def test_markers(units: Units) -> None:
    def marks(faults: Faults) -> list[int]:
        with Camera(units, FAST, faults=faults) as camera, Client(camera) as client:
            client.play()
            return [row[1] >> 7 for row in client.headers()]

    right = marks(Faults())
    assert sum(right) == len(units) < len(right)
    assert marks(Faults(marker="none")) == [0] * len(right)
    assert marks(Faults(marker="all")) == [1] * len(right)
    odd = marks(Faults(marker=lambda index, right: right != (index == 4)))
    assert [index for index, pair in enumerate(zip(right, odd, strict=True)) if pair[0] != pair[1]] == [4]


@pytest.mark.long
@pytest.mark.parametrize("step", ["ACCEPT", "OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PLAYING"])
@pytest.mark.parametrize("fault", ["stall_at", "reset_at", "close_at"])
def test_every_step_can_be_the_last(units: Units, step: str, fault: str) -> None:
    ending = {"stall_at": TimeoutError, "reset_at": ConnectionResetError, "close_at": EOFError}[fault]
    faults = Faults(**{fault: step}, after_units=3)  # type: ignore[arg-type]
    with Camera(units, FAST, faults=faults, faulty_connections=1) as camera:
        with pytest.raises(ending), Client(camera) as client:
            _go_through(client, camera, step, 0.15 if fault == "stall_at" else 5)
        steps = ["ACCEPT", "OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PLAYING"]
        asked = camera.methods()
        assert asked == steps[1 : 1 + len(asked)]
        assert len(camera.sent) == (3 if step == "PLAYING" else 0)
        with Client(camera) as second:
            second.play()
            assert second.headers()


def _go_through(client: Client, camera: Camera, last: str, patience: float) -> None:
    def ask(method: str, url: str = "", **headers: str) -> str:
        client.wait(patience if last in ("ACCEPT", method) else 5)
        try:
            return client.exchange(method, url, **headers)[1]
        except BrokenPipeError:
            raise ConnectionResetError from None

    ask("OPTIONS")
    ask("DESCRIBE")
    head = ask("SETUP", f"{client.url}/trackID=0", Transport="RTP/AVP/TCP;unicast;interleaved=0-1")
    client.session = re.findall(r"Session: (\w+)", head)[0]
    ask("PLAY")
    assert camera.until(lambda: len(camera.sent) == 3)
    client.wait(patience)
    client.headers()
    raise EOFError


def test_a_camera_that_plays_can_go_deaf(units: Units) -> None:
    with Camera(units, faults=Faults(deaf=True, after_units=1)) as camera, Client(camera) as client:
        client.play()
        assert camera.until(lambda: len(camera.sent) > 1)
        client.ask("GET_PARAMETER")
        assert camera.until(lambda: "GET_PARAMETER" in camera.methods())
        assert camera.until(lambda: len(camera.sent) > 6)
        client._sock.shutdown(socket.SHUT_WR)
        assert not any(packet[:4] == b"RTSP" for _, packet in client.frames())


ANSWERS: dict[str, tuple[Faults, Callable[[int, str, bytes], bool]]] = {
    "status": (Faults(status={"DESCRIBE": 503}), lambda code, _, __: code == 503),
    "redirect": (
        Faults(status={"DESCRIBE": 302}, location="self"),
        lambda code, head, _: code == 302 and "Location: rtsp://127" in head,
    ),
    "raw": (Faults(raw={"DESCRIBE": b"HTTP/1.1 400 No\r\n\r\n"}), lambda _, head, __: head[:4] == "HTTP"),
    "cseq": (Faults(cseq=lambda number: number + 7), lambda _, head, __: "CSeq: 8\r\n" in head),
    "no cseq": (Faults(cseq=lambda _: None), lambda _, head, __: "CSeq" not in head),
    "lower case": (Faults(lower_case=True), lambda _, head, __: "content-length: " in head),
    "odd space": (Faults(odd_space=True), lambda _, head, __: "CSeq:  \t 1 \t\r\n" in head),
    "folded": (Faults(folded=True), lambda _, head, __: "CSeq:\r\n\t1\r\n" in head),
    "bare LF": (Faults(bare_lf=True), lambda _, head, body: b"\r" not in head.encode() + body),
    "SDP": (Faults(sdp=lambda text: text.upper()), lambda _, __, body: b"M=VIDEO" in body),
    "edited": (
        Faults(answer=lambda _, whole: whole.replace(b"200", b"299")),
        lambda code, _, __: code == 299,
    ),
}


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_answers_are_as_odd_as_asked(units: Units, kind: str) -> None:
    faults, right = ANSWERS[kind]
    with Camera(units, FAST, faults=faults) as camera, Client(camera) as client:
        assert right(*client.exchange("DESCRIBE"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["header", "line", "body", "body-no-length"])
def test_an_answer_need_not_end(units: Units, kind: str) -> None:
    faults = Faults(endless={"DESCRIBE": kind}, drip_s=0)  # type: ignore[dict-item]
    with Camera(units, FAST, faults=faults) as camera, Client(camera) as client:
        client.ask("DESCRIBE")
        assert len(client.read(200_000)) == 200_000


@pytest.mark.long
def test_frames_are_broken_as_asked(units: Units) -> None:
    with (
        Camera(units, FAST, faults=Faults(frame_size=lambda _, right: right + 60_000)) as camera,
        Client(camera) as client,
    ):
        client.play()
        assert int.from_bytes(client.read(4)[2:], "big") > 60_000
    with (
        Camera(units, FAST, faults=Faults(garbage=b"nonsense", garbage_every=1)) as camera,
        Client(camera) as client,
    ):
        client.play()
        assert client.read(9) == b"nonsense$"
    faults = Faults(half_packet="close", after_units=0)
    with Camera(units, FAST, faults=faults) as camera, Client(camera) as client:
        client.play()
        assert len(client.read(10_000)) == 4 + 1002 // 2


@pytest.mark.long
def test_transports_are_refused_and_blocked(units: Units) -> None:
    for refused, transport in (
        ("tcp", "RTP/AVP/TCP;interleaved=0-1"),
        ("udp", "RTP/AVP;client_port=5000-5001"),
    ):
        faults = Faults(refuse=refused)  # type: ignore[arg-type]
        with Camera(units, FAST, faults=faults) as camera, Client(camera) as client:
            assert client.exchange("SETUP", f"{camera.url}/trackID=0", Transport=transport)[0] == 461
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind(("127.0.0.1", 0))
        media.settimeout(0.1)
        port = media.getsockname()[1]
        faults = Faults(blocked_udp=True)
        with Camera(units, faults=faults) as camera, Client(camera) as client:
            client.play(f"RTP/AVP;unicast;client_port={port}-{port + 1}")
            assert camera.until(lambda: len(camera.sent) > 2)
            with pytest.raises(TimeoutError):
                media.recv(2000)


def test_requests_and_answers_come_between_frames_and_sessions_end(units: Units) -> None:
    stream = Stream(rate=100, timeout_s=1, expire="requests")
    faults = Faults(server_requests=("OPTIONS", "ANNOUNCE"))
    with Camera(units, stream, faults=faults) as camera, Client(camera) as client:
        client.play()
        begun = time.monotonic()
        client.ask("GET_PARAMETER")
        client._sock.sendall(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n" + b"$\x01\x00\x04\x80\xc9\x00\x00")
        everything = client.read(100_000_000)
        assert 0.9 < time.monotonic() - begun < 4
        assert b"OPTIONS * RTSP/1.0\r\n" in everything
        assert b"ANNOUNCE * RTSP/1.0\r\n" in everything
        assert everything.count(b"RTSP/1.0 200 OK\r\nCSeq: 3\r\n") == 1
        assert camera.answers == [b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"]
        assert [report.packet for report in camera.reports] == [b"\x80\xc9\x00\x00"]


def test_the_clock_of_the_sender_reports_jumps(units: Units) -> None:
    stream = Stream(rate=100, loop=False, reports_s=0.01, clock_offset_s=-50, clock_jump=(15, 3600))
    with Camera(units, stream) as camera, Client(camera) as client:
        client.play()
        reports = [packet for channel, packet in client.frames() if channel == 1 and packet[1] == 200]
    ahead = [struct.unpack(">I", packet[8:12])[0] - 2_208_988_800 - time.time() for packet in reports]
    assert ahead[0] == pytest.approx(-50, abs=3)
    assert ahead[-1] == pytest.approx(3550, abs=3)


def test_sha256_and_nonces_that_go_stale(units: Units) -> None:
    login = Login('vi"ewer', "pä:ss", ("basic", "digest-sha256"), realm='a "b" \\ c', stale_after=1)
    with Camera(units, FAST, login) as camera, Client(camera) as client:
        _, head, _ = client.exchange("DESCRIBE")
        assert head.count("WWW-Authenticate: ") == 2
        assert 'realm="a \\"b\\" \\\\ c"' in head

        def credentials(password: str, count: int, url: str = client.url) -> str:
            nonce = re.findall(r'nonce="(\w+)"', head)[0]
            parts = f'vi"ewer:{login.realm}:{password}', f"{nonce}:{count:08x}:abc:auth", f"DESCRIBE:{url}"
            first, second = (hashlib.sha256(text.encode()).hexdigest() for text in parts[::2])
            response = hashlib.sha256(f"{first}:{parts[1]}:{second}".encode()).hexdigest()
            return (
                f'Digest username="vi\\"ewer", realm="a \\"b\\" \\\\ c", nonce="{nonce}", uri="{url}",'
                f' algorithm=SHA-256, qop=auth, nc={count:08x}, cnonce="abc", response="{response}"'
            )

        assert client.exchange("DESCRIBE", Authorization=credentials("wrong", 1))[0] == 401
        assert client.exchange("DESCRIBE", Authorization=credentials("pä:ss", 1, "rtsp://other/"))[0] == 401
        assert client.exchange("DESCRIBE", Authorization=credentials("pä:ss", 1))[0] == 200
        code, head, _ = client.exchange("DESCRIBE", Authorization=credentials("pä:ss", 2))
        assert (code, "stale=true" in head) == (401, True)
        assert client.exchange("DESCRIBE", Authorization=credentials("pä:ss", 1))[0] == 200
        assert client.exchange("DESCRIBE", Authorization=credentials("pä:ss", 1))[0] == 401
        assert [reason.split()[0] for reason in camera.denied] == ["no", "password", "uri", "stale", "stale"]


def test_a_camera_returns_on_its_port(units: Units) -> None:
    with Camera(units) as camera, Client(camera) as client:
        client.play()
        camera.drop()
        with pytest.raises(ConnectionResetError):
            client.headers()
        assert camera.until(lambda: camera.connected == 0)
    with Camera(units, port=camera.port) as again, Client(again) as client:
        client.play()
        assert again.until(lambda: len(again.sent) > 1)
