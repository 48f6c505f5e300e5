"""`streamd record` on an encrypted bus of a real daemon, and `streamd replay` on one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd import pictures, subscribe
from tests.bus.test_curve import Keys
from tests.bus.test_recording import read
from tests.support.command import fails, run_inline, start
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.playing import results

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("encrypted")
    config = write_config(
        folder / "c.yaml",
        make_number_model(folder / "m.onnx"),
        {"gate": {"url": "test:?rate=50&size=128x64"}},
        publish={"curve": str(keys.folder), "frames": "tcp://127.0.0.1:0", "frames_max_fps": 20},
    )
    with RunningDaemon(config) as running:
        yield running
        assert running.stop() == 0


def shown_by(keys: Keys, name: str) -> list[object]:
    own, server = keys(name)
    return ["--keys", own, "--server-key", server]


def test_what_a_listed_client_recorded_is_played_to_listed_clients(
    daemon: RunningDaemon, keys: Keys, tmp_path: Path
) -> None:
    path = tmp_path / "s.jsonl"
    done = run_inline("record", daemon.endpoint, path, "--duration", "0.5", *shown_by(keys, "alice"))
    assert done.returncode == 0, done.stderr
    assert ", 0 lost on the bus" in done.stderr
    messages, fault = read(path.read_bytes())
    assert fault is None
    recorded = [parts for parts in messages if parts[0] == b"streamd/gate/results"]
    assert len(recorded) > 5
    secrets = [keys(name)[0].read_text().split('secret-key = "')[1][:40] for name in ("alice", "bob")]
    assert not [secret for secret in secrets if secret in path.read_text()]
    with start("replay", path, "--bind", "tcp://127.0.0.1:0", "--curve", keys.folder) as replay:
        assert replay.stderr is not None
        endpoint = replay.stderr.readline().split("plays on ")[1].split(";")[0]
        timeout = ("--timeout", "30")
        refused = run_inline("tail", endpoint, *timeout, *shown_by(keys, "mallory"))
        fails(refused, 1, "the daemon refused the key of mallory")
        fails(run_inline("tail", endpoint, *timeout), 1, "the bus is encrypted; name this client's keys")
        # Who was refused did not begin it.
        own, server = keys("bob")
        with subscribe(endpoint, stream="gate", timeout_s=30, keys=own, server_key=server) as client:
            seen = [next(client).seq for _ in recorded]
        _, err = replay.communicate(timeout=60)
    assert (replay.returncode, client.gaps) == (0, 0)
    assert seen == list(range(seen[0], seen[0] + len(recorded)))
    assert "streamd: refused: 127.0.0.1 with the key " in err
    assert f"{len(messages)} messages sent" in err


def test_pictures_of_an_encrypted_bus_are_recorded_and_seen_again(
    daemon: RunningDaemon, keys: Keys, tmp_path: Path
) -> None:
    path = tmp_path / "p.jsonl"
    done = run_inline("record", daemon.pictures, path, "--duration", "0.2", *shown_by(keys, "alice"))
    assert done.returncode == 0, done.stderr
    bus = f"ipc://{tmp_path}/bus"
    with start("replay", path, "--bind", bus, "--curve", keys.folder, "--loop") as replay:
        assert replay.stderr is not None
        assert "plays on" in replay.stderr.readline()
        own, server = keys("alice")
        with pictures(bus, timeout_s=30, keys=own, server_key=server) as shown:
            result, jpeg = next(shown)
        replay.terminate()
        assert replay.wait(60) == 0
    assert (result.stream, result.width, result.height) == ("gate", 128, 64)
    assert jpeg.startswith(b"\xff\xd8")


def test_nobody_else_records_and_no_file_is_left(daemon: RunningDaemon, keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    timeout = ("--timeout", "30")
    refused = run_inline("record", daemon.endpoint, path, *timeout, *shown_by(keys, "mallory"))
    fails(refused, 1, "the daemon refused the key of mallory")
    fails(run_inline("record", daemon.endpoint, path, *timeout), 1, "the bus is encrypted; name this client")
    own, _ = keys("alice")
    fails(run_inline("record", daemon.endpoint, path, "--keys", own), 2, "needs both")
    assert not path.exists()


def test_keys_that_cannot_be_used_end_a_replay_before_it_plays(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(results(3, 1000))
    bind = ("--bind", f"ipc://{tmp_path}/bus")
    fails(run_inline("replay", path, *bind, "--curve", tmp_path / "none"), 1, "none: no such folder")
    own, _ = keys("alice")
    fails(run_inline("replay", path, *bind, "--curve", own), 2, "is no folder")
    assert not (tmp_path / "bus").exists()
