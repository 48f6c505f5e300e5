"""A known model comes onto this machine: alone, whole and checked, or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from streamd.core.caches import sync
from streamd.core.errors import FetchError, OutputError
from streamd.core.files import FULL
from streamd.models.catalogue import KnownModel
from streamd.models.download import TransferError, Watch, download
from streamd.models.store import ModelStore

_LOOK_AGAIN_S = 0.2
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""Of the files that are written under names that are known beforehand: none may lead elsewhere."""


class _WrongSumError(Exception):
    """All came, and it is something else; the message is its SHA-256."""


def pull(store: ModelStore, model: KnownModel, watch: Watch) -> Path:
    """The model's verified file, fetched where it is not there yet.

    While another process fetches it, this one waits. Blocks. Raises FetchError; OutputError when the folder
    cannot be written.
    """
    path = store.path(model)
    if store.flaw(model) is None:
        return path
    try:
        with _alone(store, model, watch):
            flaw = store.flaw(model)
            if flaw is None:
                return path
            if flaw:
                watch.tell(f"{path} {flaw}: it is fetched anew")
            _fetch(store, model, watch)
    except OSError as error:
        raise _unwritable(store, model, error) from error
    return path


def _unwritable(store: ModelStore, model: KnownModel, error: OSError) -> OutputError:
    why = error.strerror or error
    if error.errno in FULL:
        return OutputError(
            f"{model.name}: {store.folder}: {why}; nothing was kept, make room for {model.bytes} bytes"
        )
    return OutputError(
        f"{model.name}: {store.folder} cannot be written: {why}; run `streamd models pull {model.name}` as "
        "somebody who may, with the same CACHE_DIRECTORY, if any"
    )


@contextmanager
def _alone(store: ModelStore, model: KnownModel, watch: Watch) -> Iterator[None]:
    """Hold the model's lock. Raises OSError, and FetchError when the watch stops the wait."""
    store.folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(store.folder / f"{model.name}.lock", _FLAGS, 0o644)
    try:
        told = False
        while not _locked(lock):
            if not told:
                watch.tell(f"another process fetches {model.name}; waiting for it")
                told = True
            watch.progress(0)
            if watch.stop.wait(_LOOK_AGAIN_S):
                raise FetchError(f"{model.name}: stopped while another process fetched it")
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    """Whether the lock could be had now. Raises OSError."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _fetch(store: ModelStore, model: KnownModel, watch: Watch) -> None:
    """Under the lock. The file gets its name when all of it is on the disk. Raises FetchError, OSError."""
    part = store.folder / f"{model.name}.onnx.part"
    address = store.address(model)
    # Unbuffered, so that a kill loses nothing of what came.
    with FileIO(os.open(part, _FLAGS, 0o644), "r+") as file:
        try:
            _fill(file, address, model, watch)
            os.fsync(file.fileno())
        except TransferError as error:
            where = f" from {address}" if store.mirror else ""
            raise FetchError(
                f"{model.name} cannot be fetched{where}: {error}; try again, or {store.advice(model)}"
            ) from error
        except OSError as error:
            # What is kept of it takes the room that is missing.
            if error.errno in FULL:
                part.unlink()
            raise
        except _WrongSumError as error:
            part.unlink()
            raise FetchError(
                f"{model.name}: what {address} sent has the SHA-256 {error}, not {model.sha256}: damaged on the "
                "way, or tampered with; it was removed"
            ) from error
    part.replace(store.path(model))
    sync(store.folder)


def _fill(file: FileIO, address: str, model: KnownModel, watch: Watch) -> None:
    """Raises TransferError, _WrongSumError, OSError."""
    kept = os.fstat(file.fileno()).st_size
    download(address, file, model.bytes, watch)
    if kept and _digest(file) != model.sha256:
        # The earlier part may have come from elsewhere, or be damaged: only a whole file tells on its server.
        watch.tell(f"{model.name}: what was kept of an earlier try does not fit; begun anew")
        file.truncate(0)
        download(address, file, model.bytes, watch)
    found = _digest(file)
    if found != model.sha256:
        raise _WrongSumError(found)


def _digest(file: FileIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
