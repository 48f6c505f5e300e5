"""Key files: what is written is what others read, and every way in which one can be wrong is one clear line."""

# ruff: noqa: E501 - a table row is easier to read on one line
from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
import zmq.auth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.bus.keymaking import list_client, make_client, make_server
from streamd.bus.keys import KeysError, read_clients, read_keyring, read_pair, read_public
from streamd.core.errors import OutputError, StreamdError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A daemon's keys, and alice's, whose secret lies beside."""
    make_server(tmp_path / "keys", force=False)
    make_client("alice", tmp_path / "keys", tmp_path, force=False)
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_files_are_those_of_zeromq(folder: Path) -> None:
    keyring = read_keyring(folder)
    public, secret = zmq.auth.load_certificate(folder / "server.key_secret")
    assert secret is not None
    assert (keyring.server.public, keyring.server.secret) == (public.decode(), secret.decode())
    assert zmq.auth.load_certificate(folder / "server.key") == (public, None)
    assert zmq.auth.load_certificates(folder / "clients") == {key.encode(): True for key in keyring.clients}
    assert list(keyring.clients.values()) == ["alice"]
    assert keyring.notes == ()


def test_what_pyzmq_makes_is_read(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    zmq.auth.create_certificates(tmp_path, "server", {"site": "the-gate"})
    zmq.auth.create_certificates(tmp_path, "bob")
    (tmp_path / "server.key_secret").chmod(0o600)
    (tmp_path / "bob.key").rename(tmp_path / "clients" / "bob.key")
    assert list(read_clients(tmp_path).values()) == ["bob"]


def test_a_secret_is_its_owners_alone_whatever_the_umask_and_never_shown(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_server(tmp_path / "k", force=False)
        secret, public = make_client("bob", None, tmp_path / "own", force=False)
    finally:
        os.umask(before)
    assert [mode(path) for path in (tmp_path / "k" / "server.key_secret", secret)] == [0o600, 0o600]
    assert mode(tmp_path / "k") == 0o700
    assert public.parent == secret.parent
    pair = read_pair(secret)
    assert pair.secret not in f"{pair} {pair!r} {read_keyring(tmp_path / 'k')}"


def test_no_secret_is_replaced_without_force(folder: Path, tmp_path: Path) -> None:
    files = [folder / "server.key_secret", tmp_path / "alice.key_secret", folder / "clients" / "alice.key"]
    before = [file.read_bytes() for file in files]
    with pytest.raises(UsageError, match="--force makes new keys"):
        make_server(folder, force=False)
    with pytest.raises(UsageError, match="--force replaces it"):
        make_client("alice", folder, tmp_path, force=False)
    with pytest.raises(UsageError, match="--force replaces it"):
        make_client("alice", folder, tmp_path / "elsewhere", force=False)
    assert [file.read_bytes() for file in files] == before
    make_server(folder, force=True)
    make_client("alice", folder, tmp_path, force=True)
    assert all(old != file.read_bytes() for old, file in zip(before, files, strict=True))
    assert read_keyring(folder).clients.keys() == {read_pair(tmp_path / "alice.key_secret").public}
    left = [path.name for path in folder.rglob("*") if path.is_file()]
    assert sorted(left) == ["alice.key", "server.key", "server.key_secret"]


def test_a_lost_public_half_is_written_again(folder: Path) -> None:
    before = (folder / "server.key").read_bytes()
    (folder / "server.key").unlink()
    assert not make_server(folder, force=False)
    assert (folder / "server.key").read_bytes() == before


def test_a_client_that_made_its_own_keys_is_listed(folder: Path, tmp_path: Path) -> None:
    secret, public = make_client("bob", None, tmp_path / "bob", force=False)
    list_client("bob", str(public), folder, force=False)
    list_client("carol", zmq.curve_keypair()[0].decode(), folder, force=False)
    assert set(read_clients(folder).values()) == {"alice", "bob", "carol"}
    with pytest.raises(KeysError, match="holds a secret key"):
        list_client("dave", str(secret), folder, force=False)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "server", "a b", "x" * 65, "a\0b", "-x"])
def test_a_name_that_is_no_file_name_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a client"):
        make_client(name, folder, tmp_path, force=False)


def test_a_folder_that_is_no_daemons_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="streamd keys server"):
        make_client("bob", tmp_path, tmp_path, force=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        make_server(tmp_path / "file" / "keys", force=False)


def swap_halves(file: Path) -> None:
    text = file.read_text()
    text = text.replace("public-key", "x").replace("secret-key", "public-key").replace("x =", "secret-key =")
    file.write_text(text)


def other_pair(file: Path) -> None:
    public, secret = zmq.auth.load_certificate(file)
    assert secret is not None
    file.write_text(file.read_text().replace(public.decode(), zmq.curve_keypair()[0].decode()))


def exchange(folder: Path) -> None:
    secret, public = folder / "server.key_secret", folder / "server.key"
    one, two = secret.read_text(), public.read_text()
    secret.write_text(two)
    public.write_text(one)


def instead(file: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return change


SECRET_FILE, PUBLIC_FILE, ALICE = "server.key_secret", "server.key", "clients/alice.key"


@pytest.mark.parametrize(
    ("change", "code", "file", "said"),
    [
        (lambda f: (f / SECRET_FILE).chmod(0o644), 1, SECRET_FILE, "mode 0644 opens the secret key to others; chmod 600 "),
        (lambda f: (f / SECRET_FILE).chmod(0o640), 1, SECRET_FILE, "mode 0640 opens"),
        (lambda f: (f / ALICE).chmod(0o666), 1, ALICE, "mode 0666 lets everybody change it; chmod o-w "),
        (lambda f: (f / "clients").chmod(0o777), 1, "clients", "lets everybody change it; chmod o-w "),
        (lambda f: f.chmod(0o777), 1, "", "lets everybody change it"),
        (lambda f: (f / SECRET_FILE).unlink(), 1, SECRET_FILE, "no such file; make it with `streamd keys server "),
        (lambda f: f.rename(f.parent / "gone"), 1, "", "no such folder; make it with `streamd keys server "),
        (instead(ALICE, lambda p: p.parent.rmdir()), 1, "clients", "no such folder; make it with mkdir "),
        (lambda f: (f / SECRET_FILE).write_text(""), 2, SECRET_FILE, "is empty"),
        (lambda f: (f / ALICE).write_text(" \n"), 2, ALICE, "is empty"),
        (lambda f: (f / ALICE).write_bytes(os.urandom(300)), 2, ALICE, "is no key file"),
        (lambda f: (f / ALICE).write_bytes(bytes(1 << 17)), 2, ALICE, "larger than 64 KiB"),
        (lambda f: (f / ALICE).write_text("curve\n  public-key = \"short\"\n"), 2, ALICE, "is no key (40 characters"),
        (lambda f: (f / ALICE).write_text(f"public-key={'~' * 40}\n"), 2, ALICE, "is no key"),
        (lambda f: (f / ALICE).write_text(f"public-key={'#' * 40}\n"), 2, ALICE, "is no key"),  # above 32 bits
        (lambda f: (f / ALICE).write_text("-----BEGIN PUBLIC KEY-----\nMCow\n"), 2, ALICE, "is no key file"),
        (instead(SECRET_FILE, Path.mkdir), 2, SECRET_FILE, "is a folder, not a key file"),
        (instead(ALICE, os.mkfifo), 2, ALICE, "is no file"),
        (lambda f: swap_halves(f / SECRET_FILE), 2, SECRET_FILE, "public-key and secret-key are swapped"),
        (lambda f: other_pair(f / SECRET_FILE), 2, SECRET_FILE, "do not belong together"),
        (lambda f: (f / SECRET_FILE).write_text((f / PUBLIC_FILE).read_text()), 2, SECRET_FILE, "holds no secret key, only the public half"),
        (exchange, 2, SECRET_FILE, "holds no secret key, only the public half"),
        (lambda f: (f / PUBLIC_FILE).write_text((f / ALICE).read_text()), 2, PUBLIC_FILE, "is not the public half of server.key_secret"),
        (lambda f: (f / ALICE).write_text((f.parent / "alice.key_secret").read_text()), 2, ALICE, "holds a secret key, which must not lie there"),
        (lambda f: (f.parent / "alice.key_secret").rename(f / "clients" / "alice.key_secret"), 2, "clients/alice.key_secret", "holds a secret key"),
        (lambda f: (f / "clients/bob.key").write_text((f / ALICE).read_text()), 2, "clients/bob.key", "the same key as alice.key"),
        (lambda f: (f / ALICE).write_text((f / PUBLIC_FILE).read_text()), 2, ALICE, "the server's own key"),
    ],
)  # fmt: skip
def test_each_fault_is_one_line(
    folder: Path, change: Callable[[Path], object], code: int, file: str, said: str
) -> None:
    secret = zmq.auth.load_certificate(folder / SECRET_FILE)[1]
    assert secret is not None
    change(folder)
    with pytest.raises(KeysError) as caught:
        read_keyring(folder)
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    assert str(caught.value).startswith(f"{folder / file}: ")
    assert said in str(caught.value)
    assert caught.value.exit_code == code
    assert secret.decode() not in str(caught.value)


def test_a_secret_of_another_user_is_refused(folder: Path) -> None:
    if os.geteuid() != 0:
        return  # only root can give a file away
    os.chown(folder / "server.key_secret", 12345, -1)
    with pytest.raises(
        KeysError, match=r"belongs to 12345, who can read the secret key; chown \w+ "
    ) as caught:
        read_keyring(folder)
    assert caught.value.exit_code == 1


def test_every_fault_is_told_at_once_and_other_files_are_noted(folder: Path) -> None:
    (folder / "server.key_secret").chmod(0o644)
    (folder / "clients" / "bob.key").write_text("nothing\n")
    with pytest.raises(KeysError) as caught:
        read_keyring(folder)
    assert len(str(caught.value).splitlines()) == 2
    assert caught.value.exit_code == 2
    (folder / "server.key_secret").chmod(0o600)
    (folder / "clients" / "bob.key").rename(folder / "clients" / "bob.txt")
    (folder / "clients" / ".gitkeep").touch()
    assert read_keyring(folder).notes == (
        f"{folder}/clients/bob.txt is not read: a client's file is called NAME.key",
    )
    (folder / "clients" / "alice.key").unlink()
    assert "lists no client, so nobody can read" in read_keyring(folder).notes[-1]


@pytest.mark.long
@given(content=st.binary(max_size=400), cut=st.integers(0, 200))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_surprises(tmp_path: Path, content: bytes, cut: int) -> None:
    file = tmp_path / "x.key"
    for text in (
        content,
        b'curve\n    public-key = "' + content,
        (b'public-key = "' + b"0" * 40 + b'"')[:cut] + content,
    ):
        file.write_bytes(text)
        for read in (read_public, read_pair):
            file.chmod(0o600)
            try:
                read(file)
            except StreamdError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017
