"""The encrypted bus over real sockets: who gets in, who does not, what is told of it, and what noise does."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
import zmq.auth

from streamd import subscribe
from streamd.bus.admission import Admission, Refusals
from streamd.bus.client import messages
from streamd.bus.keymaking import make_client, make_server
from streamd.bus.keys import KeysError, read_clients, read_keyring
from streamd.core.errors import StreamdError, UsageError
from streamd.core.timing import NS_PER_S
from tests.bus.test_bus import Bench, settle
from tests.support.frames import lane_of
from tests.support.zmq_reader import Reader

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)


class Keys:
    """A daemon's folder with alice and bob on its list; mallory has keys and is not on it."""

    def __init__(self, path: Path) -> None:
        self.folder = path / "keys"
        self.server = self.folder / "server.key"
        self._path = path
        make_server(self.folder, force=False)
        for name in ("alice", "bob"):
            make_client(name, self.folder, path, force=False)
        make_client("mallory", None, path, force=False)

    def __call__(self, name: str) -> tuple[Path, Path]:
        return self._path / f"{name}.key_secret", self.server


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@contextmanager
def encrypted(keys: Keys, told: list[str], bind: str = "tcp://127.0.0.1:0") -> Iterator[Bench]:
    bench = Bench(bind, admission=Admission(read_keyring(keys.folder), told.append))
    try:
        assert bench.publisher.bound.wait(10), bench.failure
        yield bench
    finally:
        bench.outbox.close()
        bench.thread.join(10)
        assert not bench.thread.is_alive()


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "ipc://{}/bus"])
def test_listed_clients_read_and_nobody_else_does(keys: Keys, tmp_path: Path, bind: str) -> None:
    told: list[str] = []
    with encrypted(keys, told, bind.format(tmp_path)) as bench:
        endpoint = bench.publisher.endpoint
        with (
            Reader(endpoint, keys=keys("alice")) as alice,
            Reader(endpoint, keys=keys("bob")) as bob,
            Reader(endpoint, keys=keys("mallory")) as mallory,
            Reader(endpoint) as plain,
        ):
            settle(bench, alice)
            settle(bench, bob)
            assert wait_until(lambda: len(told) > 0)
            lane = lane_of("gate")
            for _ in range(20):
                bench.post(lane)
            for reader in (alice, bob):
                assert reader.wait(lambda messages: sum("results" in topic for topic, _ in messages) == 20)
            assert mallory.messages == plain.messages == []
    where = f"process {os.getpid()} of user {os.getuid()}" if bind.startswith("ipc") else "127.0.0.1"
    public = zmq.auth.load_certificate(keys("mallory")[0])[0].decode()
    assert f"{where} with the key {public[:8]}..., which is not listed" in "; ".join(told)
    assert public not in "; ".join(told)


def wait_until(met: object, timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while not met():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.slow
def test_a_client_without_encryption_with_a_password_or_for_another_server_is_told_of(keys: Keys) -> None:
    def plain(client: zmq.Socket[bytes]) -> None:
        client.plain_username, client.plain_password = b"alice", b"x"

    def other_server(client: zmq.Socket[bytes]) -> None:
        client.curve_publickey, secret = zmq.auth.load_certificate(keys("alice")[0])
        client.curve_secretkey, client.curve_serverkey = secret or b"", zmq.curve_keypair()[0]

    for setup in (lambda client: None, plain, other_server):
        told: list[str] = []
        with (
            encrypted(keys, told) as bench,
            zmq.Context() as context,
            context.socket(zmq.SUB) as client,
        ):
            client.setsockopt(zmq.LINGER, 0)
            setup(client)
            client.connect(bench.publisher.endpoint)
            client.subscribe(b"")
            assert wait_until(lambda told=told: told)
            bench.event(1, "gate", "live")
            assert not client.poll(300)
        assert "a connection that ended before it was encrypted" in told[0]


@pytest.mark.slow
def test_the_client_reads_and_says_why_it_cannot(keys: Keys, tmp_path: Path) -> None:
    own, server = keys("alice")
    with encrypted(keys, []) as bench:
        endpoint = bench.publisher.endpoint
        with (
            messages(endpoint, timeout_s=20, keys=own, server_key=server) as feed,
            subscribe(endpoint, timeout_s=20, keys=str(own), server_key=str(server)) as results,
            Reader(endpoint, keys=keys("bob")) as witness,
        ):
            settle(bench, witness)
            lane = lane_of("gate")
            ended = threading.Event()

            def post() -> None:
                while not ended.wait(0.02):
                    bench.post(lane)

            poster = threading.Thread(target=post)
            poster.start()
            try:
                assert next(results).stream == "gate"
                assert next(feed)[0].startswith("streamd/")
            finally:
                ended.set()
                poster.join()
        secret, server = keys("mallory")
        with (
            messages(endpoint, timeout_s=20, keys=secret, server_key=server) as feed,
            pytest.raises(StreamdError, match="the daemon refused the key of mallory; put its public half"),
        ):
            next(feed)
        make_server(tmp_path / "other", force=False)
        with (
            messages(endpoint, timeout_s=1, keys=own, server_key=tmp_path / "other" / "server.key") as feed,
            pytest.raises(
                TimeoutError, match=r"no message within 1 s; .* is this server\.key the daemon's\?"
            ),
        ):
            next(feed)
        # Which side sees first that the two do not fit is chance, and so is which of the two lines it is.
        with (
            messages(endpoint, timeout_s=2) as feed,
            pytest.raises((StreamdError, TimeoutError), match="encrypted"),
        ):
            next(feed)


def test_keys_for_a_bus_that_is_not_encrypted_are_one_line(keys: Keys) -> None:
    bench = Bench("tcp://127.0.0.1:0")
    try:
        assert bench.publisher.bound.wait(10)
        own, server = keys("alice")
        with (
            messages(bench.publisher.endpoint, timeout_s=2, keys=own, server_key=server) as feed,
            pytest.raises((StreamdError, TimeoutError), match=r"the bus is not encrypted|every connection"),
        ):
            next(feed)
    finally:
        bench.outbox.close()
        bench.thread.join(10)


def test_key_files_that_a_client_mixes_up_are_one_line(keys: Keys, tmp_path: Path) -> None:
    own, server = keys("alice")
    with pytest.raises(UsageError, match="needs both"):
        subscribe(keys=own)
    with pytest.raises(KeysError, match="holds no secret key, only the public half"):
        subscribe(keys=server, server_key=own)
    with pytest.raises(KeysError, match="holds a secret key"):
        subscribe(keys=own, server_key=keys.folder / "server.key_secret")
    with pytest.raises(UsageError, match="is the client's own key"):
        subscribe(keys=own, server_key=keys.folder / "clients" / "alice.key")
    own.chmod(0o644)
    with pytest.raises(KeysError, match="chmod 600"):
        subscribe(keys=own, server_key=server)


@pytest.mark.slow
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tcp://*:0", "ipc://{}/bus"])
def test_a_changed_list_holds_at_once(keys: Keys, tmp_path: Path, bind: str) -> None:
    told: list[str] = []
    with encrypted(keys, told, bind.format(tmp_path)) as bench:
        endpoint = bench.publisher.endpoint
        with Reader(endpoint, keys=keys("alice")) as alice, Reader(endpoint, keys=keys("bob")) as bob:
            settle(bench, alice)
            settle(bench, bob)
            # Bob is taken off: he is cut off, alice comes back by herself, and nothing else changes.
            (keys.folder / "clients" / "bob.key").unlink()
            bench.publisher.allow(read_clients(keys.folder))
            assert wait_until(lambda: told), "bob comes back, and is refused"
            so_far = len(bob.messages)
            again = ticking_until(bench, alice)
            assert len(bob.messages) == so_far
            # Mallory is put on: nobody is cut off.
            make_client("carol", keys.folder, tmp_path, force=False)
            bench.publisher.allow(read_clients(keys.folder))
            with Reader(endpoint, keys=keys("carol")) as carol:
                settle(bench, carol)
                for n in range(again, again + 50):
                    bench.event(n, "gate", "live")
                assert alice.wait(lambda messages: messages[-1][1]["n"] == again + 49)
            numbers = [m["n"] for m in alice.of("gate/events") if not m.get("replay") and m["n"] >= again]
            assert numbers == list(range(again, again + 50))
        assert bench.publisher.endpoint == endpoint
    if bind.startswith("ipc"):
        assert not (tmp_path / "bus").exists()


def ticking_until(bench: Bench, reader: Reader) -> int:
    """Send events until one arrives; the next number."""
    so_far = len(reader.messages)
    for n in range(100, 1000):
        bench.event(n, "gate", "live")
        if reader.wait(lambda messages: len(messages) > so_far, 0.1):
            return n + 1
    raise AssertionError("nothing arrived")


def test_fifty_refused_clients_are_told_of_in_few_lines(keys: Keys) -> None:
    told: list[str] = []
    with encrypted(keys, told) as bench, zmq.Context() as context:
        server = zmq.auth.load_certificate(keys.server)[0]
        clients = []
        for _ in range(50):
            client = context.socket(zmq.SUB)
            client.setsockopt(zmq.LINGER, 0)
            client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
            client.curve_serverkey = server
            # Counted at the client, so that the end of the test is known: each is refused once.
            events = client.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            client.connect(bench.publisher.endpoint)
            clients.append((client, events))
        for client, events in clients:
            assert events.poll(20_000)
            client.disable_monitor()
            events.close(0)
            client.close(0)
    # The first at once; at the end the rest in sum. A slow machine may need one more in between.
    assert 1 <= len(told) <= 4, told
    assert sum(line.count("not listed") for line in told) <= 3 * len(told)
    assert "more connections" in told[-1]


def test_refusals_are_summed_up_ever_more_rarely_and_told_at_once_after_a_quiet_time() -> None:
    refusals = Refusals()
    told: list[tuple[int, str]] = []
    for second in range(3600):
        for _ in range(10):
            refusals.add(f"visitor {second}")
        line = refusals.due(1_000 * NS_PER_S + second * NS_PER_S)
        if line:
            told.append((second, line))
    assert [second for second, _ in told][:6] == [0, 10, 30, 70, 130, 190]
    assert len(told) < 65
    assert told[1][1].startswith("visitor 1 (10 times); visitor 2 (10 times); visitor 3 (10 times); and ")
    quiet = 1_000 * NS_PER_S + 5000 * NS_PER_S
    assert refusals.due(quiet), "what came after the last line"
    refusals.add("soon")
    assert refusals.due(quiet + 1) is None
    assert refusals.due(quiet + 60 * NS_PER_S) == "soon"
    assert refusals.due(quiet + 130 * NS_PER_S) is None
    refusals.add("late")
    assert refusals.due(quiet + 131 * NS_PER_S) == "late"


def test_random_keys_take_no_memory() -> None:
    refusals = Refusals()
    for n in range(5000):
        refusals.add(f"visitor {n}")
    line = refusals.due(NS_PER_S, last=True)
    assert line == "visitor 0; visitor 1; visitor 2; and 4997 more connections"


@pytest.mark.long
def test_noise_on_the_port_disturbs_nobody_who_is_listed(keys: Keys) -> None:
    """10,000 connections with random bytes, some after a greeting that is right."""
    told: list[str] = []
    noise = random.Random(7)
    with encrypted(keys, told) as bench, Reader(bench.publisher.endpoint, keys=keys("alice")) as alice:
        settle(bench, alice)
        lane = lane_of("gate")
        host, port = bench.publisher.endpoint.removeprefix("tcp://").split(":")
        posted = 0
        for n in range(10_000):
            with socket.create_connection((host, int(port)), 20) as visitor:
                start = GREETING if n % 2 else GREETING[: noise.randrange(12)]
                # A command of a size that nobody may announce, every now and then.
                middle = b"\x06" + noise.randbytes(8) if n % 3 == 0 else b"\x04\xc8\x05HELLO"
                with contextlib.suppress(OSError):  # closed before all was sent, which is right
                    visitor.sendall(start + middle + noise.randbytes(noise.randrange(300)))
                if n % 4 == 0:  # ends by a reset and not in order
                    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if n % 20 == 0:
                bench.post(lane)
                posted += 1
        assert alice.wait(lambda messages: sum("results" in topic for topic, _ in messages) == posted, 60)
        assert [m["seq"] for m in alice.of("/results")] == list(range(posted))
        with Reader(bench.publisher.endpoint, keys=keys("bob")) as late:
            settle(bench, late)
    assert told
    assert len(told) < 10
    assert len(os.listdir("/proc/self/fd")) < 500


def test_a_stranger_cannot_make_the_daemon_take_a_huge_message(keys: Keys) -> None:
    """One command of a gigabyte, before anything is known of who sends it: the connection ends at its size."""
    with encrypted(keys, []) as bench:
        host, port = bench.publisher.endpoint.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 20) as stranger:
            stranger.sendall(GREETING + b"\x06" + (1 << 30).to_bytes(8, "big"))
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 1 << 26:
                    sent += stranger.send(bytes(1 << 16))
            assert sent < 1 << 24
