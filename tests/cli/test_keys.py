"""`streamd keys` as somebody types it: what it makes, what it says to do next, and that no secret is shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq.auth

from streamd.bus.keys import read_clients, read_pair
from tests.support.command import fails, run_inline


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_keys_are_made_listed_and_shown_without_a_secret(tmp_path: Path) -> None:
    out = [run_inline(*words) for words in (
        ("keys", "server", "keys"), ("keys", "client", "alice", "keys", "--to", "out"), ("keys", "list", "keys")
    )]  # fmt: skip
    assert [result.returncode for result in out] == [0, 0, 0], [result.stderr for result in out]
    shown = "".join(result.stdout + result.stderr for result in out)
    for file in (tmp_path / "keys" / "server.key_secret", tmp_path / "out" / "alice.key_secret"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert read_pair(file).secret not in shown
    assert "curve: " + str(tmp_path / "keys") in out[0].stdout
    assert "--keys alice.key_secret --server-key server.key" in out[1].stdout
    assert out[2].stdout.splitlines() == [
        f"server    {read_pair(tmp_path / 'keys' / 'server.key_secret').public}",
        f"alice     {read_pair(tmp_path / 'out' / 'alice.key_secret').public}",
    ]


def test_a_client_makes_its_own_keys_and_only_the_public_half_travels(tmp_path: Path) -> None:
    assert run_inline("keys", "server", "keys").returncode == 0
    made = run_inline("keys", "client", "bob", "--to", "away")
    assert "streamd keys client bob FOLDER --public bob.key" in made.stdout
    listed = run_inline("keys", "client", "bob", "keys", "--public", "away/bob.key")
    assert listed.returncode == 0
    public = zmq.auth.load_certificate(tmp_path / "away" / "bob.key")[0].decode()
    assert read_clients(tmp_path / "keys") == {public: "bob"}
    fails(run_inline("keys", "client", "bob", "--public", public), 2, "onto which list?")


@pytest.mark.slow
def test_what_is_there_stays_without_force(tmp_path: Path) -> None:
    assert run_inline("keys", "server", "keys").returncode == 0
    assert run_inline("keys", "client", "alice", "keys").returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.key*")}
    fails(run_inline("keys", "server", "keys"), 2, "keys/server.key_secret is there", "--force")
    fails(run_inline("keys", "client", "alice", "keys"), 2, "alice.key_secret is there", "--force")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.key*")} == before
    assert run_inline("keys", "server", "keys", "--force").returncode == 0
    assert (tmp_path / "keys" / "server.key_secret").read_bytes() not in before.values()


def test_faults_end_with_their_codes(tmp_path: Path) -> None:
    fails(run_inline("keys", "list", "gone"), 1, "gone: no such folder")
    fails(run_inline("keys", "client", "alice", "gone"), 1, "streamd keys server gone")
    fails(run_inline("keys", "client", "../alice"), 2, "cannot name a client")
    assert run_inline("keys", "server", "keys").returncode == 0
    empty = run_inline("keys", "list", "keys")
    assert (empty.returncode, empty.stderr) == (
        0, "note: keys/clients lists no client, so nobody can read; see `streamd keys client`\n"
    )  # fmt: skip
    (tmp_path / "keys" / "server.key_secret").chmod(0o604)
    fails(run_inline("keys", "list", "keys"), 1, "mode 0604 opens", "chmod 600 keys/server.key_secret")
    (tmp_path / "keys" / "server.key_secret").write_text("garbage")
    fails(run_inline("keys", "list", "keys"), 2, "is no key file")


def test_tail_names_both_keys_or_none() -> None:
    fails(run_inline("tail", "--keys", "x"), 2, "needs both")
    fails(run_inline("tail", "--keys", "x", "--server-key", "y"), 1, "x: no such file")
