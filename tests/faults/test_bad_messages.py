"""Messages that are not streamd's: one clear error in the client, one line from `streamd tail`."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import zmq

from streamd import subscribe
from streamd.bus.client import decode
from streamd.bus.wire import EventMessage, ResultMessage, encode
from streamd.core.errors import StreamdError
from tests.support.bad_messages import GOOD, message_of
from tests.support.command import start

SLOW_S = 10.0
RESULTS = b"streamd/gate/results"


@pytest.fixture
def publisher() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        yield socket, f"tcp://127.0.0.1:{port}"


def subscribed(socket: zmq.Socket[bytes]) -> None:
    assert socket.poll(30_000), "nobody subscribes"
    while not socket.recv().startswith(b"\1"):  # the last one may still be leaving
        assert socket.poll(30_000), "nobody subscribes"


def decode_all(seeds: Sequence[int]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        _, body = message_of(seed)
        started = time.thread_time()
        try:
            message = decode(body)
        except StreamdError as error:
            outcomes["refused"] += 1
            line = str(error)
        else:
            line = ""
            outcomes["read"] += 1
            # What is taken has the types of the contract: it can be written again.
            assert isinstance(message, ResultMessage)
            assert decode(encode(message)) == message, seed
        assert line.isprintable(), (seed, ascii(line))
        assert len(line) < 500, (seed, line)
        assert time.thread_time() - started < SLOW_S, seed
    return outcomes


def test_what_is_no_message_is_a_streamd_error() -> None:
    outcomes = decode_all(range(400))
    assert outcomes["refused"] > 100
    assert outcomes["read"] >= 3


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_thousands_of_messages_are_read_or_a_streamd_error() -> None:
    outcomes = decode_all(range(1000, 21_000))
    print(dict(outcomes))
    assert outcomes["refused"] > 5000


@pytest.mark.parametrize("rubbish", [b"[" * 100_000, b'{"schema":"streamd.result/1","run":"\xff"}', b""])
def test_what_nests_too_deep_or_is_no_text_is_refused_as_well(rubbish: bytes) -> None:
    with pytest.raises(StreamdError, match="check the endpoint"):
        decode(rubbish)


def test_a_subscriber_can_read_on_after_rubbish(publisher: tuple[zmq.Socket[bytes], str]) -> None:
    socket, endpoint = publisher
    with subscribe(endpoint, stream="gate", timeout_s=30) as results:
        subscribed(socket)
        for seed in range(1, 81, 4):
            socket.send_multipart([RESULTS, message_of(seed)[1]])
        socket.send_multipart([RESULTS])
        socket.send_multipart([RESULTS, b"", b"and", b"more"])
        socket.send_multipart([b"streamd/gate/rubbish\xff", b"\xff"])
        socket.send_multipart([RESULTS, GOOD[RESULTS.decode()], b"a part more"])
        refused = 0
        while True:
            try:
                result = next(results)
                break
            except StreamdError:
                refused += 1
    assert refused == 22
    assert (result.stream, result.seq) == ("gate", 3)


def tailed(
    publisher: tuple[zmq.Socket[bytes], str], parts: Sequence[Sequence[bytes]], *options: str
) -> subprocess.CompletedProcess[str]:
    """What `streamd tail` makes of messages; it is stopped when it has taken all without an end of its own."""
    socket, endpoint = publisher
    with start("tail", endpoint, "--timeout", "2", *options) as tail:
        subscribed(socket)
        for message in parts:
            socket.send_multipart(list(message))
        try:
            out, err = tail.communicate(timeout=60)
        finally:
            tail.kill()
        return subprocess.CompletedProcess([], tail.returncode, out, err)


def tails_all(publisher: tuple[zmq.Socket[bytes], str], seeds: Sequence[int]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        topic, body = message_of(seed)
        options = ["--json"] if seed % 2 else []
        done = tailed(publisher, [(topic.encode(), body)], *options)
        assert done.returncode == 1, (seed, done)
        assert len(done.stderr.splitlines()) == 1, (seed, done.stderr[:2000])
        assert done.stderr.startswith("streamd: tcp://"), seed
        assert done.stderr.strip().isprintable(), seed
        refused = "no message of streamd" in done.stderr or "daemon speaks streamd." in done.stderr
        assert refused or "no message within" in done.stderr, (seed, done.stderr)
        outcomes["refused" if refused else "read"] += 1
        assert len(done.stdout.splitlines()) <= 1, seed
        if options and done.stdout:
            json.loads(done.stdout)
        elif done.stdout:
            assert done.stdout.rstrip("\n").isprintable(), seed
    return outcomes


@pytest.mark.long
def test_tail_ends_with_one_line_at_rubbish(publisher: tuple[zmq.Socket[bytes], str]) -> None:
    assert tails_all(publisher, (1, 5))["refused"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_tail_ends_with_one_line_at_rubbish_long(publisher: tuple[zmq.Socket[bytes], str]) -> None:
    outcomes = tails_all(publisher, range(100, 180))
    print(dict(outcomes))
    assert outcomes["refused"] > 20


@pytest.mark.long
def test_tail_shows_no_terminal_commands(publisher: tuple[zmq.Socket[bytes], str]) -> None:
    event = EventMessage(run="r", stream="gate", n=0, at_us=0, event="lost", reason="error",
                         detail="\x1b[2Jgone\nforged line")  # fmt: skip
    other = {"schema": "streamd.other/1", "text": "a"}
    parts = [
        (b"streamd/gate/events", encode(event)),
        (b"streamd/gate/\x1b[2Jother", json.dumps(other).encode()),
        (RESULTS, GOOD[RESULTS.decode()]),
    ]
    done = tailed(publisher, parts)
    first, second, third = done.stdout.splitlines()
    assert re.fullmatch(r"gate +lost  error: �\[2Jgone�forged line", first)
    assert second.startswith("streamd/gate/�[2Jother  {")
    assert third.endswith("64x48  1 person")
