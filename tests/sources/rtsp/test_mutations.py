"""Thousands of broken conversations and packets: nothing but a SourceError comes out, in time, in little memory."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import psutil
import pytest

from streamd.core.errors import Reason, SourceError
from streamd.core.picture import Picture
from streamd.sources import SourceRequest
from streamd.sources.libav.planes import Arrival
from streamd.sources.rtsp import description, rtcp
from streamd.sources.rtsp.authentication import Authenticator, LoginError
from streamd.sources.rtsp.messages import Framer, ProtocolError
from streamd.sources.rtsp.reorder import Reorderer
from streamd.sources.rtsp.rtp import Reception, parse
from streamd.sources.rtsp.session import Media, Session
from streamd.sources.rtsp.source import RtspSource
from streamd.sources.rtsp.target import joined, target_of
from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Faults, Stream, units_of
from tests.support.rtsp_reading import pixels, read_all, recorded, request_of, scripted

pytestmark = pytest.mark.slow

CONNECTIONS = 500
READERS = 16
GROWTH = 150 * 1024 * 1024
NOW = Arrival(1, 1)
FAST = Stream(mtu=200, pace=False, loop=False, reports_s=0.001)


@dataclass(frozen=True)
class Recording:
    """What a camera said: to each request, and its packets."""

    answers: list[bytes]
    rtp: list[bytes]
    rtcp: list[bytes]
    sdp: bytes


@pytest.fixture(scope="module", params=["libx264", "libx265"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    clip = make(
        tmp_path_factory.mktemp("mutations") / "clip.mp4",
        Clip(request.param, frames=18, width=160, height=128, gop=6, b_frames=2),
    )
    faults = Faults(server_requests=("OPTIONS", "ANNOUNCE", "GET_PARAMETER"))
    with Camera(units_of(clip), FAST, faults=faults) as camera:
        answers = recorded(camera)
    framer = Framer()
    framer.expect(0)
    assert len(framer.feed(answers[-1])) == 5
    assert framer.garbage == 0
    return Recording(answers, framer.rtp, framer.rtcp, answers[1].partition(b"\r\n\r\n")[2])


def mutated(chance: random.Random, content: bytes, most: int = 4) -> bytes:
    """The bytes with 1 to `most` changes."""
    made = bytearray(content)
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(made) + 1)
        end = at + min(int(chance.expovariate(0.05)) + 1, 4096)
        match chance.randrange(7):
            case 0 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(made):
                made[at] = chance.choice(b'\x00\xff$\r\n :;,="\\/[]0123456789')
            case 2:
                made[at:at] = chance.randbytes(end - at)
            case 3:
                made[at:at] = bytes([chance.choice(b'\x00\xff$\r\n :;,="\\[]9a')]) * (end - at)
            case 4:
                del made[at:end]
            case 5:
                made[at:at] = made[at:end]
            case _:
                if chance.random() < 0.3:
                    del made[at:]
    return bytes(made)


def broken(chance: random.Random, packets: Sequence[bytes]) -> list[bytes]:
    """Packets lost, twice, late and with other content."""
    return shuffled(
        chance, [mutated(chance, packet) if chance.random() < 0.05 else packet for packet in packets]
    )


def shuffled(chance: random.Random, packets: Sequence[bytes]) -> list[bytes]:
    """Packets lost, twice and late; the first stays."""
    made = list(packets)
    for _ in range(chance.randint(0, 6)):
        at, to = chance.randrange(1, len(made)), chance.randrange(1, len(made))
        match chance.randrange(3):
            case 0:
                del made[at]
            case 1:
                made.insert(to, made[at])
            case _:
                made.insert(to, made.pop(at))
    return made


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """No hang, and no memory kept. The bounds are generous: they are for what has no end."""
    before, started = resident(), time.monotonic()
    yield
    assert time.monotonic() - started < seconds
    assert resident() - before < GROWTH


def test_a_stream_may_be_cut_anywhere(recording: Recording) -> None:
    stream = b"".join(recording.answers[2:])[:20_000]

    def fed(pieces: Iterator[bytes]) -> tuple[list[object], list[bytes], list[bytes]]:
        framer, found = Framer(), list[object]()
        framer.expect(0)
        for piece in pieces:
            found += framer.feed(piece)
        assert framer.garbage == 0
        return found, framer.rtp, framer.rtcp

    whole = fed(iter([stream]))
    assert len(whole[0]) > 2
    for seed in range(60):
        chance = random.Random(seed)
        most = chance.choice([1, 5, 20, 500])
        assert fed(cut(chance, stream, most)) == whole


def cut(chance: random.Random, stream: bytes, most: int) -> Iterator[bytes]:
    at = 0
    while at < len(stream):
        size = chance.randint(1, most)
        yield stream[at : at + size]
        at += size


@pytest.mark.long
def test_broken_streams_are_cut_all_the_same(recording: Recording) -> None:
    with bounded(30):
        for seed in range(500):
            chance = random.Random(seed)
            stream = mutated(chance, b"".join(recording.answers)[: chance.choice([600, 2000, 30_000])], 8)
            framer = Framer()
            with contextlib.suppress(ProtocolError):
                for piece in cut(chance, stream, chance.choice([30, 3000, 100_000])):
                    framer.feed(piece)
                    if chance.random() < 0.1:
                        framer.expect(chance.choice([0, 0, 0, 254, 255]))
            assert all(packet[0] >> 6 == 2 for packet in framer.rtp + framer.rtcp)


def test_broken_packets(recording: Recording) -> None:
    reception = Reception(90_000)
    with bounded(30):
        for seed in range(1500):
            chance = random.Random(seed)
            packet = parse(mutated(chance, chance.choice(recording.rtp)), NOW)
            if packet is not None:
                reception.gap(packet)
            for report in rtcp.parse(mutated(chance, chance.choice(recording.rtcp))):
                assert 0 <= report.ssrc < 1 << 32
            rtcp.receiver_report(1, "streamd", reception, seed, seed / 7)


def test_broken_orders(recording: Recording) -> None:
    for seed in range(150):
        chance = random.Random(seed)
        reorderer, given = Reorderer(), 0
        packets = [
            packet for data in broken(chance, recording.rtp) if (packet := parse(data, NOW)) is not None
        ]
        for packet in packets:
            given += len(reorderer.push(packet))
            given += len(reorderer.overdue(chance.choice([1, 1, 1, 1 << 40])))
        assert given <= len(packets)


def test_broken_descriptions(recording: Recording) -> None:
    with bounded(30):
        for seed in range(400):
            chance = random.Random(seed)
            made = description.read(mutated(chance, recording.sdp, 8))
            for track in made.tracks:
                assert all(track.parameter_sets)
                assert track.clock_rate > 0
                assert isinstance(joined("rtsp://[::1]:8554/camera/", track.control), str)
            base = mutated(chance, b"rtsp://[fe80::1%25eth0]:8554/camera").decode("utf-8", "replace")
            assert isinstance(joined(base, chance.choice(["/a", "a", "*", "rtsp://[", "//["])), str)
            with contextlib.suppress(SourceError):
                target_of(SourceRequest(base))


def test_broken_challenges() -> None:
    good = (
        b'Digest realm="a \\"b\\"", nonce="0123456789abcdef", qop="auth,auth-int", opaque="x", stale=true,'
        b' algorithm=MD5, Basic realm="c", Digest algorithm=SHA-256-sess, nonce="z", realm="d"'
    )
    with bounded(30):
        for seed in range(600):
            chance = random.Random(seed)
            login = Authenticator("viewer", "secret")
            with contextlib.suppress(LoginError):
                values = [mutated(chance, good, 6).decode("utf-8", "replace") for _ in range(2)]
                login.challenged([" ".join(value.splitlines()) for value in values])
            field = login.header("DESCRIBE", "rtsp://camera/") or ""
            assert "secret" not in field
            assert "\n" not in field


class Played:
    """A session that plays these packets, a few at a time, and ends."""

    def __init__(self, chance: random.Random, packets: list[bytes], reports: list[bytes]) -> None:
        self._chance, self._packets, self._reports = chance, packets, reports
        self.keep_alive_ns = 1 << 62
        self.ended: str | None = None

    def media(self, wait_s: float) -> Media:
        if not self._packets:
            raise SourceError(Reason.EOF, "over")
        size = self._chance.choice([1, 3, 50])
        taken, self._packets = self._packets[:size], self._packets[size:]
        reports = [self._reports.pop()] if self._reports and self._chance.random() < 0.2 else []
        return Media(Arrival.now(), taken, reports)

    def close(self) -> None:
        self._packets.clear()


@pytest.mark.long
@pytest.mark.parametrize("udp", [False, True])
def test_broken_pictures(recording: Recording, udp: bool) -> None:
    track = description.read(recording.sdp).videos[0]
    counts = [0, 0]
    with bounded(40):
        for seed in range(150):
            chance = random.Random(seed)
            packets = broken(chance, recording.rtp)
            reports = [mutated(chance, chance.choice(recording.rtcp)) for _ in range(3)]
            session = cast(Session, Played(chance, packets, reports))
            known = description.read(mutated(chance, recording.sdp)).videos[:1] if seed % 2 else []
            asked = dataclasses.replace(track, formats=known[0].formats) if known else track
            source = RtspSource(session, asked, request_of("rtsp://camera/"), threading.Event(), [], udp)
            with source, contextlib.suppress(SourceError):
                for picture in source.pictures():
                    counts[picture.corrupt] += 1
    assert min(counts) > 50  # it did decode, and it did notice


def _pictures(recording: Recording, chance: random.Random, packets: list[bytes], udp: bool) -> list[Picture]:
    track = description.read(recording.sdp).videos[0]
    session = cast(Session, Played(chance, packets, []))
    found: list[Picture] = []
    source = RtspSource(session, track, request_of("rtsp://camera/"), threading.Event(), [], udp)
    with source, contextlib.suppress(SourceError):
        found.extend(source.pictures())
    return found


@pytest.mark.long
@pytest.mark.parametrize("udp", [False, True])
def test_a_picture_that_is_not_called_corrupt_is_right(recording: Recording, udp: bool) -> None:
    good = {pixels(picture) for picture in _pictures(recording, random.Random(0), list(recording.rtp), udp)}
    right = corrupt = 0
    for seed in range(150):
        chance = random.Random(seed)
        packets = shuffled(chance, recording.rtp)
        if not udp:  # TCP keeps the order; the camera itself may leave something out
            packets = [packet for packet in recording.rtp if packet in set(packets)]
        for picture in _pictures(recording, chance, packets, udp):
            if picture.corrupt:
                corrupt += 1
            else:
                right += 1
                assert pixels(picture) in good, (seed, picture.pts)
    assert len(good) == 18
    assert right > 500
    assert corrupt > 5


def _conversations(recording: Recording, seeds: range) -> list[list[bytes]]:
    talks = []
    for seed in seeds:
        chance = random.Random(seed)
        answers = list(recording.answers)
        for _ in range(chance.randint(1, 2)):
            step = chance.randrange(len(answers))
            answers[step] = mutated(chance, answers[step], 6)
        talks.append(answers)
    return talks


@pytest.mark.long
def test_broken_conversations(recording: Recording) -> None:
    talks = _conversations(recording, range(CONNECTIONS // 2))
    told: list[str] = []

    def read(url: str) -> float:
        started = time.monotonic()
        try:
            read_all(url, timeout_s=0.3)
        except SourceError as fault:
            told.append(str(fault))
        return time.monotonic() - started

    with (
        bounded(60),
        # A reader that is let down over UDP, or sent elsewhere, comes again.
        scripted(talks * 2, silent=True) as url,
        ThreadPoolExecutor(READERS) as pool,
    ):
        took = list(pool.map(read, [url] * len(talks)))
    assert max(took) < 10
    assert told
    assert all(text.isprintable() and len(text) < 400 for text in told)
