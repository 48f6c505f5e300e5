"""New key files: never over a secret that is there, and a secret never readable by others, not for a moment."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from shlex import quote

from streamd.bus.keys import CLIENTS, PUBLIC, SECRET, certificate, is_key, new_pair, read_pair, read_public
from streamd.core.errors import OutputError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make_server(folder: Path, *, force: bool) -> bool:
    """The daemon's pair and an empty list; False when only its public half was missing and has been written.

    Raises UsageError when there is a pair already and not `force`, KeysError when that one cannot be used,
    OutputError when the files cannot be written.
    """
    secret, public = folder / f"server{SECRET}", folder / f"server{PUBLIC}"
    if secret.exists() and not force:
        pair = read_pair(secret)
        if public.exists():
            raise UsageError(
                f"{secret} is there; --force makes new keys, and every client then needs the new server{PUBLIC}"
            )
        _write(public, certificate(pair.public), 0o644, force=False)
        return False
    pair = new_pair()
    _make_folder(folder, 0o700)
    _make_folder(folder / CLIENTS, 0o755)
    _write(secret, certificate(pair.public, pair.secret), 0o600, force=force)
    # One that lies there without its secret belongs to nothing.
    _write(public, certificate(pair.public), 0o644, force=True)
    return True


def make_client(name: str, folder: Path | None, to: Path, *, force: bool) -> tuple[Path, Path]:
    """A client's pair: the secret goes to the folder `to`, the public half onto the list in `folder`.

    Without `folder` the public half lies beside the secret. Returns both files. Raises as `make_server`, and
    MissingFileError (a KeysError) when `folder` is not a daemon's.
    """
    checked_name(name)
    secret = to / f"{name}{SECRET}"
    public = (to if folder is None else _list_of(folder)) / f"{name}{PUBLIC}"
    _refuse_existing(force, secret, public)
    pair = new_pair()
    _make_folder(to, 0o700)
    _write(secret, certificate(pair.public, pair.secret), 0o600, force=force)
    _write(public, certificate(pair.public), 0o644, force=force)
    return secret, public


def list_client(name: str, key: str, folder: Path, *, force: bool) -> Path:
    """Put a client that made its own pair onto the list: `key` is 40 characters of Z85, or a public key's file.

    Raises as `make_client`.
    """
    checked_name(name)
    public = _list_of(folder) / f"{name}{PUBLIC}"
    _refuse_existing(force, public)
    _write(public, certificate(key if is_key(key) else read_public(Path(key))), 0o644, force=force)
    return public


def checked_name(name: str) -> None:
    """Raises UsageError for a name that no file of a client may have."""
    if not _NAME.fullmatch(name) or name == "server":
        raise UsageError(f"{name!r} cannot name a client; use letters, digits, . _ and -, and not `server`")


def _list_of(folder: Path) -> Path:
    """The folder of clients. The server's secret is looked at, so that nobody lists clients in a wrong place."""
    read_public(folder / f"server{PUBLIC}")
    _make_folder(folder / CLIENTS, 0o755)
    return folder / CLIENTS


def _refuse_existing(force: bool, *paths: Path) -> None:
    for path in paths:
        if path.exists() and not force:
            raise UsageError(f"{path} is there; --force replaces it, and the client needs its new keys then")


def _make_folder(folder: Path, mode: int) -> None:
    if folder.is_dir():
        return
    try:
        folder.mkdir(mode, parents=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}; choose another folder") from error


def _write(path: Path, text: str, mode: int, *, force: bool) -> None:
    """Whole or not at all: written beside, flushed, then given its name."""
    temporary: str | None = None
    try:
        # Its mode is 0600 from the first moment on.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        if force:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # unlike a rename, it never replaces what another one has just put there
    except FileExistsError as error:
        raise UsageError(f"{path} is there; --force replaces it") from error
    except OSError as error:
        raise OutputError(
            f"{quote(str(path))}: cannot be written: {error.strerror}; check the folder and its disk"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
