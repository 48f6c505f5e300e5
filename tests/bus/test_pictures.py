"""The thread of the pictures over real sockets: who is served, what is overtaken, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
import pytest
import zmq

from streamd import pictures as subscribe_pictures
from streamd.bus import pictures as pictures_module
from streamd.bus import wire
from streamd.bus.endpoint import Endpoint
from streamd.bus.messages import result_message
from streamd.bus.pictures import Counts, Encode, PicturePublisher
from streamd.core.errors import OutputError, StreamdError
from streamd.core.picture import Picture
from streamd.pipeline.lane import Frame
from streamd.service.render import JpegEncoder
from streamd.sources import SourceRequest, open_source
from tests.bus.test_wire import result_of

STUCK = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.RCVHWM, 2)
socket.connect(sys.argv[1])
socket.subscribe(sys.argv[2])
socket.recv_multipart()
print("served", flush=True)
time.sleep(600)
"""


@cache
def picture() -> Picture:
    with open_source(SourceRequest("test:?size=64x48&pace=fast"), threading.Event()) as source:
        return next(source.pictures())


class Bench:
    """A picture publisher that runs, and what feeds it."""

    def __init__(self, bind: str, encode: Encode, group: str | None) -> None:
        self.stop = threading.Event()
        self.publisher = PicturePublisher(Endpoint("publish.frames", bind, group), encode, 50)
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.publisher.run(self.stop)
        except OutputError as error:
            self.failure = error

    def offer(self, stream: str, number: int = 0) -> None:
        """What the publisher of results does with a frame that kept its picture."""
        result = result_of()
        result.frame.lane.stream = stream
        result.frame.lane.keeping = self.publisher.keeping(stream)
        result.frame.number = result.seq = number
        result.frame.picture = picture()
        self.publisher.offer(result.frame, wire.encode(result_message(result, "run1", 1)))

    def wanted(self, *streams: str) -> list[str]:
        return [stream for stream in streams if self.publisher.keeping(stream).wanted]


@contextmanager
def running(
    bind: str = "tcp://127.0.0.1:0", encode: Encode | None = None, group: str | None = None
) -> Iterator[Bench]:
    bench = Bench(bind, encode or JpegEncoder(80), group)
    try:
        assert bench.publisher.bound.wait(10), bench.failure
        yield bench
    finally:
        bench.stop.set()
        bench.thread.join(10)
        assert not bench.thread.is_alive()


@contextmanager
def subscriber(bench: Bench, *prefixes: str, kind: int = zmq.SUB) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(bench.publisher.endpoint)
        for prefix in prefixes:
            if kind == zmq.SUB:
                socket.subscribe(prefix)
            else:
                socket.send(b"\x01" + prefix.encode())
        yield socket


def until(happened: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.long
@pytest.mark.parametrize(
    ("prefix", "served"),
    [
        ("", ["cam1", "cam10"]),
        ("stre", ["cam1", "cam10"]),
        ("streamd/", ["cam1", "cam10"]),
        ("streamd/cam1", ["cam1", "cam10"]),
        ("streamd/cam1/", ["cam1"]),
        ("streamd/cam10/frames", ["cam10"]),
    ],
)
def test_those_streams_are_wanted_that_somebody_subscribes_to(prefix: str, served: list[str]) -> None:
    with running() as bench:
        assert bench.wanted("cam1", "cam10") == []
        with subscriber(bench, prefix):
            until(lambda: bench.wanted("cam1", "cam10") == served)
        until(lambda: bench.wanted("cam1", "cam10") == [])


def test_who_wants_results_here_causes_no_encode() -> None:
    encoded: list[str] = []
    with running(encode=lambda stream, _: encoded.append(stream)) as bench:
        others = ("streamd/cam1/results", "streamd/_daemon/", "streamd/cam1/framesandmore")
        with subscriber(bench, *others, "streamd/witness/"):
            until(lambda: bench.wanted("witness") == ["witness"])
            for number in range(20):
                bench.offer("cam1", number)
            bench.offer("witness")
            until(lambda: encoded == ["witness"])
            assert bench.publisher.counts("cam1") == Counts()


@pytest.mark.slow
def test_a_stream_stays_wanted_while_one_subscriber_is_left_and_a_new_one_is_at_once() -> None:
    with running() as bench, subscriber(bench, "streamd/") as stays:
        with subscriber(bench, "streamd/a/", "streamd/") as leaves:
            until(lambda: bench.wanted("a") == ["a"])
            leaves.unsubscribe("streamd/")
        time.sleep(0.5)
        assert bench.wanted("a", "added later") == ["a", "added later"]
        stays.unsubscribe("streamd/")
        until(lambda: bench.wanted("a", "added later") == [])


def test_only_subscriptions_are_taken_for_one() -> None:
    with running() as bench:
        with subscriber(bench, "streamd/b/", kind=zmq.XSUB) as talker:
            for words in ([b"hello"], [b"x", b"\x01streamd/a/"], [b""]):
                talker.send_multipart(words)
            talker.send(b"\x01streamd/c/")
            until(lambda: bench.wanted("a", "b", "c") == ["b", "c"])
        until(lambda: bench.wanted("a", "b", "c") == [])


@pytest.mark.slow
def test_a_request_beyond_all_measure_costs_only_its_sender() -> None:
    with (
        running() as bench,
        subscriber(bench, "streamd/a/"),
        subscriber(bench, "streamd/b/" + "x" * 70_000, "streamd/c/"),
    ):
        until(lambda: bench.wanted("a") == ["a"])
        time.sleep(0.5)
        assert bench.wanted("a", "b", "c") == ["a"]


def test_what_is_sent_is_topic_result_and_picture() -> None:
    with running() as bench, subscribe_pictures(bench.publisher.endpoint, timeout_s=20) as shown:
        until(lambda: bench.wanted("gate") == ["gate"])
        bench.offer("gate", 7)
        result, jpeg = next(shown)
        assert (result.stream, result.seq, result.frame) == ("gate", 7, 7)
        assert jpeg == JpegEncoder(80)("gate", picture())
        with subscriber(bench, "streamd/gate/frames") as plain:
            # Until the second subscriber is served: XPUB does not tell of it.
            while not plain.poll(50):
                bench.offer("gate", 8)
            topic, header, body = plain.recv_multipart()
        assert topic == b"streamd/gate/frames"
        assert json.loads(header)["seq"] == 8
        assert body == jpeg


def test_the_newest_picture_overtakes_and_streams_take_turns() -> None:
    encoding, go_on = threading.Event(), threading.Semaphore(0)

    def slowly(stream: str, shown: Picture) -> bytes | None:
        encoding.set()
        assert go_on.acquire(timeout=30)
        return JpegEncoder(80)(stream, shown)

    with running(encode=slowly) as bench, subscribe_pictures(bench.publisher.endpoint, timeout_s=20) as shown:
        until(lambda: bench.wanted("a", "b") == ["a", "b"])
        bench.offer("a", 0)
        assert encoding.wait(30)
        started = time.monotonic()
        for number in range(1, 6):
            bench.offer("a", number)
            bench.offer("b", number)
        bench.offer("a", 6)
        assert time.monotonic() - started < 5  # nobody waited for the encoder
        got = []
        for _ in range(3):
            # One by one: the queue for a subscriber holds two.
            go_on.release()
            result, _ = next(shown)
            got.append((result.stream, result.seq))
        assert got == [("a", 0), ("a", 6), ("b", 5)]
        until(lambda: bench.publisher.counts("b").sent == 1)
        assert bench.publisher.counts("a") == Counts(sent=2, overtaken=5)
        assert bench.publisher.counts("b") == Counts(sent=1, overtaken=4)


def test_what_cannot_be_encoded_is_counted_and_the_next_one_is_sent() -> None:
    answers = iter([None, b"jpeg"])
    with (
        running(encode=lambda *_: next(answers)) as bench,
        subscribe_pictures(bench.publisher.endpoint, timeout_s=20) as shown,
    ):
        until(lambda: bench.wanted("a") == ["a"])
        bench.offer("a", 0)
        until(lambda: bench.publisher.counts("a").failed == 1)
        bench.offer("a", 1)
        result, jpeg = next(shown)
        assert (result.seq, jpeg) == (1, b"jpeg")
        until(lambda: bench.publisher.counts("a") == Counts(sent=1, failed=1))


def test_a_frame_without_a_picture_and_one_after_the_end_come_to_nothing() -> None:
    with running() as bench, subscriber(bench, ""):
        until(lambda: bench.wanted("a") == ["a"])
        bare: Frame = result_of().frame
        bench.publisher.offer(bare, b"{}")
        assert bench.publisher.counts("gate") == Counts()
        bench.stop.set()
        bench.thread.join(10)
        for number in range(3):
            bench.offer("a", number)
        assert bench.publisher.counts("a") == Counts()


@contextmanager
def hanging(bench: Bench) -> Iterator[None]:
    """A subscriber of `a` that was served once and then takes nothing in any more."""
    command = [sys.executable, "-c", STUCK, bench.publisher.endpoint, "streamd/a/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            until(lambda: bench.wanted("a") == ["a"])
            bench.offer("a")
            assert process.stdout.readline() == "served\n"
            process.send_signal(signal.SIGSTOP)
            yield
        finally:
            process.kill()


@pytest.mark.long
def test_a_subscriber_that_hangs_is_left_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its connection says that it is there."""
    monkeypatch.setattr(pictures_module, "_GONE_S", 1)
    with running(encode=lambda *_: bytes(1 << 20)) as bench, hanging(bench):
        number = 0
        deadline = time.monotonic() + 60
        while bench.wanted("a"):
            number += 1
            bench.offer("a", number)
            time.sleep(0.02)
            assert time.monotonic() < deadline
        assert number > 5


@pytest.mark.long
def test_what_a_subscriber_does_not_take_in_is_not_kept_for_it() -> None:
    own = psutil.Process()
    with running(encode=lambda *_: bytes(1 << 20)) as bench, hanging(bench):
        before = own.memory_info().rss
        for number in range(1, 301):
            bench.offer("a", number)
            until(lambda number=number: bench.publisher.counts("a").sent > number)
        assert own.memory_info().rss - before < 60e6  # of 315 MB


@pytest.mark.slow
def test_the_rules_of_the_other_endpoint_hold_here(tmp_path: Path) -> None:
    def failure_of(bind: str, group: str | None = None) -> str:
        bench = Bench(bind, JpegEncoder(80), group)
        bench.thread.join(10)
        assert bench.failure is not None
        return str(bench.failure)

    endpoint = f"ipc://{tmp_path}/pictures"
    with running(endpoint), running() as other:
        assert stat.S_IMODE(os.stat(tmp_path / "pictures").st_mode) == 0o660
        assert failure_of(endpoint).startswith(f"publish.frames: {endpoint} is in use")
        assert failure_of(other.publisher.endpoint).startswith(
            f"publish.frames: {other.publisher.endpoint} is in use"
        )
    assert not (tmp_path / "pictures").exists()
    assert "publish.group" in failure_of(endpoint, "no-such-group-here")


def test_the_client_says_when_it_reads_the_wrong_endpoint_and_when_nothing_comes() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        endpoint = f"tcp://127.0.0.1:{port}"
        with subscribe_pictures(endpoint, timeout_s=20) as shown:
            assert socket.recv() == b"\x01streamd/"
            socket.send_multipart([b"streamd/a/results", b"{}"])
            with pytest.raises(StreamdError, match=r"publish\.frames"):
                next(shown)
        with (
            subscribe_pictures(endpoint, stream="a", timeout_s=0.2) as shown,
            pytest.raises(TimeoutError, match=r"no picture within 0\.2 s"),
        ):
            next(shown)
