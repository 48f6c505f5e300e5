"""The encrypted bus of a real daemon: who reads, who is refused and told of, and how the daemon ends without keys."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import zmq
import zmq.auth

from streamd.bus.keymaking import make_client, make_server
from tests.support.command import fails, run, run_inline
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader

pytestmark = pytest.mark.slow

ENDLESS = {"a": {"url": "test:?rate=25"}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A daemon with keys; alice is listed, mallory has keys and is not."""
    make_server(tmp_path / "keys", force=False)
    make_client("alice", tmp_path / "keys", tmp_path, force=False)
    make_client("mallory", None, tmp_path, force=False)
    model = make_number_model(tmp_path / "m.onnx")
    return write_config(tmp_path / "c.yaml", model, ENDLESS, publish={"curve": "keys"})


def refusals(reader: Reader) -> list[str]:
    return [m["detail"] for m in reader.of("_daemon/events") if m["event"] == "client_refused"]


def test_a_listed_client_reads_and_others_are_refused_and_told_of(config: Path, tmp_path: Path) -> None:
    server = tmp_path / "keys" / "server.key"
    with (
        RunningDaemon(config) as daemon,
        Reader(daemon.endpoint, keys=(tmp_path / "alice.key_secret", server)) as alice,
    ):
        assert alice.wait(lambda messages: sum(topic.endswith("results") for topic, _ in messages) > 5)
        told = fails(
            run_inline(
                "tail", daemon.endpoint, "--keys", tmp_path / "mallory.key_secret", "--server-key", server
            ),
            1,
            "the daemon refused the key of mallory",
        )
        public, secret = zmq.auth.load_certificate(tmp_path / "mallory.key_secret")
        assert secret is not None
        assert secret.decode() not in told
        assert alice.wait(lambda _: bool(refusals(alice)))
        assert refusals(alice)[0] == f"127.0.0.1 with the key {public.decode()[:8]}..., which is not listed"
        plain = run_inline("tail", daemon.endpoint, "--timeout", "30")
        fails(plain, 1, "encrypted")
        # Told of in the next sum, 10 s later, or when the daemon ends.
        so_far = len(alice.of("/results"))
        assert alice.wait(lambda _: len(alice.of("/results")) > so_far + 5)
        shown = run_inline("keys", "list", tmp_path / "keys").stdout
        assert daemon.stop() == 0
    log = "\n".join(daemon.log)
    assert re.search(
        r"WARNING +refused on the bus: 127\.0\.0\.1 with the key .{8}\.\.\., which is not listed", log
    )
    assert "a connection that ended before it was encrypted" in log
    own = zmq.auth.load_certificate(tmp_path / "keys" / "server.key_secret")[1]
    assert own is not None
    assert own.decode() not in log + shown + repr(alice.messages)


@pytest.mark.long
def test_fifty_refused_clients_are_few_events_and_nobody_else_suffers(config: Path, tmp_path: Path) -> None:
    server = tmp_path / "keys" / "server.key"
    with (
        RunningDaemon(config) as daemon,
        Reader(daemon.endpoint, keys=(tmp_path / "alice.key_secret", server)) as alice,
    ):
        assert alice.wait(lambda messages: sum(topic.endswith("results") for topic, _ in messages) > 5)
        strangers = [Reader(daemon.endpoint) for _ in range(25)]
        strangers += [
            Reader(daemon.endpoint, keys=(tmp_path / "mallory.key_secret", server)) for _ in range(25)
        ]
        assert alice.wait(lambda _: bool(refusals(alice)))
        so_far = len(alice.of("/results"))
        assert alice.wait(lambda _: len(alice.of("/results")) > so_far + 50)
        for stranger in strangers:
            stranger.close()
            assert stranger.messages == []
        assert 1 <= len(refusals(alice)) <= 5
        seqs = [m["seq"] for m in alice.of("/results")]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert daemon.stop() == 0
    assert len([line for line in daemon.log if "refused on the bus" in line]) <= 6


@pytest.mark.long
def test_keys_that_cannot_be_used_end_the_start_with_one_line(config: Path, tmp_path: Path) -> None:
    secret = tmp_path / "keys" / "server.key_secret"
    secret.chmod(0o644)
    fails(
        run("run", "-c", config), 1, "server.key_secret: mode 0644 opens the secret key to others; chmod 600 "
    )
    secret.chmod(0o600)
    text = secret.read_text()
    secret.write_text((tmp_path / "keys" / "server.key").read_text())
    fails(run("run", "-c", config), 2, "holds no secret key, only the public half")
    secret.write_text(text)
    (tmp_path / "keys" / "clients" / "alice.key").write_bytes(b"\0\xff" * 40)
    fails(run("run", "-c", config), 2, "clients/alice.key: is no key file")


@pytest.mark.long
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "ipc://{}/bus"])
def test_a_second_daemon_on_one_endpoint_leaves_the_first_alone(tmp_path: Path, bind: str) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    one = write_config(tmp_path / "c.yaml", model, ENDLESS, publish={"bind": bind.format(tmp_path)})
    with RunningDaemon(one) as daemon, Reader(daemon.endpoint) as reader:
        two = write_config(tmp_path / "d.yaml", model, ENDLESS, publish={"bind": daemon.endpoint})
        second = run("run", "-c", two)
        assert second.returncode == 1
        assert [line for line in second.stderr.splitlines() if "streamd: " in line] == [
            next(line for line in second.stderr.splitlines() if f"{daemon.endpoint} is in use; stop" in line)
        ]
        so_far = len(reader.of("/results"))
        assert reader.wait(lambda _: len(reader.of("/results")) > so_far + 10)
        with Reader(daemon.endpoint) as late:
            assert late.wait(lambda messages: any(topic.endswith("results") for topic, _ in messages))
        seqs = [m["seq"] for m in reader.of("/results")]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert daemon.stop() == 0


@pytest.mark.long
def test_public_addresses_without_encryption_are_warned_of(config: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    open_ = write_config(
        tmp_path / "d.yaml", model, ENDLESS, publish={"bind": "tcp://*:0"}, metrics={"listen": "0.0.0.0:0"}
    )
    with RunningDaemon(open_) as daemon:
        assert daemon.stop() == 0
    warnings = [line for line in daemon.log if "WARNING" in line]
    assert [line for line in warnings if "publish.bind: tcp://*:0: anyone who reaches" in line]
    assert [line for line in warnings if "metrics.listen: 0.0.0.0:0: anyone who reaches" in line]
    with RunningDaemon(config) as daemon:
        assert daemon.stop() == 0
    assert not [line for line in daemon.log if "anyone who reaches" in line]


@pytest.mark.long
def test_a_hang_up_brings_the_list_and_what_cannot_be_read_changes_nothing(
    config: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    server = keys / "server.key"

    def told(event: str) -> list[str]:
        return [m.get("detail", "") for m in alice.of("_daemon/events") if m["event"] == event]

    def hang_up(event: str) -> str:
        before = len(told(event))
        daemon.process.send_signal(signal.SIGHUP)
        assert alice.wait(lambda _: len(told(event)) > before), daemon.log
        return told(event)[-1]

    def closed(reader: Reader) -> list[str]:
        reader.close()
        return [topic for topic, _ in reader.messages]

    with (
        RunningDaemon(config) as daemon,
        Reader(daemon.endpoint, keys=(tmp_path / "alice.key_secret", server)) as alice,
    ):
        assert alice.wait(lambda _: len(alice.of("/results")) > 5)
        # A file that is no key: the list stays as it was, for her who is on it and for her who is not.
        (keys / "clients" / "broken.key").write_text("nothing")
        assert "broken.key" in hang_up("reload_refused")
        (keys / "clients" / "broken.key").unlink()
        # Another server key cannot be taken over while clients know the old one.
        before = {name: (keys / name).read_bytes() for name in ("server.key", "server.key_secret")}
        make_server(keys, force=True)
        assert "restart" in hang_up("reload_refused")
        for name, content in before.items():
            (keys / name).write_bytes(content)
        stranger = Reader(daemon.endpoint, keys=(tmp_path / "mallory.key_secret", server))
        assert alice.wait(lambda _: bool(refusals(alice)))
        assert closed(stranger) == []
        (keys / "clients" / "mallory.key").write_bytes((tmp_path / "mallory.key").read_bytes())
        hang_up("reloaded")
        # Another connection: ZeroMQ does not try again with one that was refused.
        mallory = Reader(daemon.endpoint, keys=(tmp_path / "mallory.key_secret", server))
        assert mallory.wait(lambda _: len(mallory.of("/results")) > 10)
        seqs = [m["seq"] for m in alice.of("/results")]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        # Taken off again: no message more, and alice comes back by herself.
        so_far = len(refusals(alice))
        (keys / "clients" / "mallory.key").unlink()
        daemon.process.send_signal(signal.SIGHUP)
        assert alice.wait(lambda _: len(refusals(alice)) > so_far, 90), daemon.log
        count, results = len(mallory.messages), len(alice.of("/results"))
        assert alice.wait(lambda _: len(alice.of("/results")) > results + 25)
        assert len(closed(mallory)) == count
        assert daemon.stop() == 0
