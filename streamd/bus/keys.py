"""Keys of the encrypted bus on disk: ZeroMQ's certificate files, as CZMQ and pyzmq's `zmq.auth` know them.

A daemon's folder holds `server.key_secret` (both halves, for its owner alone), `server.key` (the public half,
for every client) and `clients/NAME.key`, the public half of each client that may read. A client holds its own
`NAME.key_secret` and a copy of `server.key`. No message of this module quotes a file's content.
"""

from __future__ import annotations

import os
import pwd
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import zmq
from zmq.utils import z85

from streamd.core.errors import StreamdError
from streamd.core.files import at_once

SECRET = ".key_secret"  # nosec B105  # a suffix of file names
PUBLIC = ".key"
CLIENTS = "clients"
_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file, as one line. `missing`: nothing in a file need change, a restart may find it."""

    text: str
    missing: bool = False


class KeysError(StreamdError):
    """Key files that cannot be used, a line each. `exit_code` is 2 when the content of one of them is wrong."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(problem.text for problem in problems))
        self.problems = problems
        self.exit_code = 1 if all(problem.missing for problem in problems) else 2


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves, 40 characters of Z85 each."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """What a daemon's folder of keys holds."""

    server: KeyPair
    clients: Mapping[str, str]
    """The public half of each client that may read, and the client's name."""
    notes: tuple[str, ...]
    """What is odd and no fault, a line each."""


def new_pair() -> KeyPair:
    """A new pair from the system's random numbers."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def read_keyring(folder: Path) -> Keyring:
    """A daemon's keys, every file checked. Blocks on the disk. Raises KeysError with a line for each fault."""
    problems: list[Problem] = []
    notes: list[str] = []
    server = None
    clients: dict[str, str] = {}
    try:
        _check_folder(folder)
        server = _server_pair(folder)
    except KeysError as error:
        problems += error.problems
    if not any(problem.missing and str(folder / CLIENTS) in problem.text for problem in problems):
        clients, notes, more = _clients(folder / CLIENTS, server)
        # A folder that is not there at all is told of once.
        problems += more if folder.is_dir() else []
    if server is None or problems:
        raise KeysError(*problems)
    if not clients:
        notes.append(f"{folder / CLIENTS} lists no client, so nobody can read; see `streamd keys client`")
    return Keyring(server, clients, tuple(notes))


def read_clients(folder: Path) -> Mapping[str, str]:
    """Only the list of a daemon's folder, for a reload: public half to name. Raises KeysError."""
    return read_keyring(folder).clients


def read_pair(path: Path) -> KeyPair:
    """Both halves from `*.key_secret`, which must be its owner's alone. Raises KeysError."""
    public, secret, status = _keys_of(path)
    if secret is None:
        raise _wrong(
            path,
            f"holds no secret key, only the public half; name the file that ends in {SECRET}, or swap them",
        )
    _check_mode(path, status, secret=True)
    if public is None:
        raise _wrong(path, "holds no public-key line; copy the file again, or make new keys")
    if _public_of(secret) == public:
        return KeyPair(public, secret)
    if _public_of(public) == secret:
        raise _wrong(path, "its public-key and secret-key are swapped; exchange the two values")
    raise _wrong(path, "its public-key and secret-key do not belong together; copy the file again")


def read_public(path: Path) -> str:
    """The public half from `*.key`. Raises KeysError, also for a file that holds a secret."""
    public, secret, _ = _keys_of(path)
    if secret is not None:
        raise _wrong(
            path, f"holds a secret key, which must not lie there; put the public half ({PUBLIC}) instead"
        )
    if public is None:
        raise _wrong(path, "holds no public key; copy the file again")
    return public


def is_key(text: str) -> bool:
    """Whether this is 32 bytes in Z85."""
    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (ValueError, KeyError, struct.error):
        return False


def certificate(public: str, secret: str | None = None) -> str:
    """The text of a key file."""
    kind = "secret: for its owner alone, mode 0600" if secret else "public: may be given away"
    lines = [f"#   ZeroMQ CURVE certificate, {kind}", "", "metadata", "curve", f'    public-key = "{public}"']
    if secret is not None:
        lines.append(f'    secret-key = "{secret}"')
    return "\n".join(lines) + "\n"


def _server_pair(folder: Path) -> KeyPair:
    path = folder / f"server{SECRET}"
    pair = read_pair(path)
    shown = folder / f"server{PUBLIC}"
    if shown.exists() and read_public(shown) != pair.public:
        raise _wrong(shown, f"is not the public half of {path.name}: clients that have it cannot connect")
    return pair


def _clients(folder: Path, server: KeyPair | None) -> tuple[dict[str, str], list[str], list[Problem]]:
    """Public half to name, what is odd, and what is wrong."""
    clients: dict[str, str] = {}
    notes: list[str] = []
    problems: list[Problem] = []
    try:
        _check_folder(folder)
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except KeysError as error:
        return clients, notes, list(error.problems)
    except OSError as error:
        return clients, notes, [Problem(f"{folder}: cannot be read: {error.strerror}", missing=True)]
    for file in files:
        if file.suffix not in (PUBLIC, SECRET):
            notes.append(f"{file} is not read: a client's file is called NAME{PUBLIC}")
            continue
        try:
            public = read_public(file)
        except KeysError as error:
            problems += error.problems
            continue
        name = file.name.removesuffix(PUBLIC)
        if public in clients:
            twin = f"{clients[public]}{PUBLIC}"
            problems += _wrong(file, f"holds the same key as {twin}; remove one of the two").problems
        elif server is not None and public == server.public:
            problems += _wrong(file, "holds the server's own key; put the client's public half").problems
        else:
            clients[public] = name
    return clients, notes, problems


def _keys_of(path: Path) -> tuple[str | None, str | None, os.stat_result]:
    """The public and the secret key that a file holds, both checked for their form; and whose file it is."""
    found: dict[str, str] = {}
    text, status = _text_of(path)
    for raw in text.splitlines():
        name, equals, value = raw.strip().partition("=")
        name = name.strip()
        if equals and name in ("public-key", "secret-key"):
            if name in found:
                raise _wrong(path, f"holds {name} twice; copy the file again")
            found[name] = value.strip(" \t'\"")
            if not is_key(found[name]):
                raise _wrong(path, f"its {name} is no key (40 characters of Z85); copy the file again")
    if not found:
        raise _wrong(path, "is no key file (no public-key line); copy the file again, or make new keys")
    return found.get("public-key"), found.get("secret-key"), status


def _text_of(path: Path) -> tuple[str, os.stat_result]:
    try:
        with open(path, "rb", opener=at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _wrong(path, "is no file")
            _check_mode(path, status, secret=False)
            raw = file.read(_LONGEST + 1)
    except FileNotFoundError as error:
        raise KeysError(Problem(f"{path}: no such file; {_advice(path)}", missing=True)) from error
    except IsADirectoryError as error:
        raise _wrong(path, "is a folder, not a key file") from error
    except OSError as error:
        who = f"; give it to the user {_user(os.geteuid())}" if isinstance(error, PermissionError) else ""
        raise KeysError(Problem(f"{path}: cannot be read: {error.strerror}{who}", missing=True)) from error
    if not raw.strip():
        raise _wrong(path, "is empty; copy the file again, or make new keys")
    if len(raw) > _LONGEST:
        raise _wrong(path, f"is no key file: larger than {_LONGEST >> 10} KiB")
    return raw.decode("utf-8", "replace"), status


def _check_mode(path: Path, status: os.stat_result, *, secret: bool) -> None:
    mode = stat.S_IMODE(status.st_mode)
    problem = None
    if secret and status.st_uid not in (0, os.geteuid()):
        owner, user = _user(status.st_uid), _user(os.geteuid())
        problem = f"belongs to {owner}, who can read the secret key; chown {user} {quote(str(path))}"
    elif secret and mode & 0o077:
        problem = f"mode {mode:04o} opens the secret key to others; chmod 600 {quote(str(path))}"
    elif mode & 0o002:
        problem = f"mode {mode:04o} lets everybody change it; chmod o-w {quote(str(path))}"
    if problem:
        raise KeysError(Problem(f"{path}: {problem}", missing=True))


def _check_folder(folder: Path) -> None:
    """Whoever may write into the folder decides who may read the bus."""
    try:
        status = folder.stat()
    except FileNotFoundError as error:
        raise KeysError(Problem(f"{folder}: no such folder; {_advice(folder)}", missing=True)) from error
    except OSError as error:
        raise KeysError(Problem(f"{folder}: cannot be read: {error.strerror}", missing=True)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise _wrong(folder, "is no folder; name the one that `streamd keys server` made")
    _check_mode(folder, status, secret=False)


def _advice(path: Path) -> str:
    if path.name == CLIENTS:
        return f"make it with mkdir {quote(str(path))}, or list a client with `streamd keys client`"
    if path.suffix in (PUBLIC, SECRET) and path.stem != "server":
        return "copy it there, or make it with `streamd keys client`"
    folder = path.parent if path.suffix in (PUBLIC, SECRET) else path
    return f"make it with `streamd keys server {quote(str(folder))}`, or copy it there"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _public_of(secret: str) -> str:
    return zmq.curve_public(secret.encode()).decode()


def _wrong(path: Path, problem: str) -> KeysError:
    return KeysError(Problem(f"{path}: {problem}"))
