"""Known models on this machine: fetched once, checked at each use.

    CACHE/<name>.onnx         the model; counts only when its size and SHA-256 are the list's
    CACHE/<name>.onnx.part    what came so far of one that is being fetched, or that broke off
    CACHE/<name>.lock         held alone while it is fetched

A file that somebody copied to the first name is as good as one that was fetched. Locks are the kernel's (flock): a
killed process holds none.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit

from streamd.core.caches import cache_folder, sync
from streamd.core.errors import FetchError, OutputError, UsageError
from streamd.models.catalogue import KnownModel
from streamd.models.download import TransferError, Watch, download

MIRROR = "STREAMD_MODELS_URL"
"""The environment variable with the address of a folder that holds <name>.onnx of each model."""
_LOOK_AGAIN_S = 0.2
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class ModelStore:
    """A folder of known models, shared by any number of processes on one machine.

    mirror: the address of a folder with the same names, to be asked instead of the models' publishers.
    """

    folder: Path
    mirror: str | None = None

    def path(self, model: KnownModel) -> Path:
        """Where the model is, or is going to be."""
        return self.folder / f"{model.name}.onnx"

    def address(self, model: KnownModel) -> str:
        """Where it is fetched from."""
        return model.address if self.mirror is None else f"{self.mirror.rstrip('/')}/{model.name}.onnx"

    def flaw(self, model: KnownModel) -> str | None:
        """None for a file to trust, "" when there is none, else what is wrong with it. Reads all of it."""
        path = self.path(model)
        try:
            # A pipe is not waited for.
            with open(path, "rb", opener=_at_once) as file:
                state = os.fstat(file.fileno())
                if not stat.S_ISREG(state.st_mode):
                    return "is no file"
                if state.st_size != model.bytes:
                    return f"has {state.st_size} bytes, not {model.bytes}"
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None if found == model.sha256 else f"has the SHA-256 {found}, not {model.sha256}"

    def pull(self, model: KnownModel, watch: Watch) -> Path:
        """The model's verified file, fetched where it is not there yet.

        While another process fetches it, this one waits. Blocks. Raises FetchError; OutputError when the folder
        cannot be written.
        """
        path = self.path(model)
        if self.flaw(model) is None:
            return path
        try:
            with self._alone(model, watch):
                flaw = self.flaw(model)
                if flaw is None:
                    return path
                if flaw:
                    watch.tell(f"{path} {flaw}: it is fetched anew")
                self._fetch(model, watch)
        except OSError as error:
            raise self._unwritable(model, error) from error
        return path

    def advice(self, model: KnownModel) -> str:
        """What to do where nothing can be fetched."""
        return f"fetch {model.address} on another machine and copy it to {self.path(model)}"

    def _unwritable(self, model: KnownModel, error: OSError) -> OutputError:
        why = error.strerror or error
        if error.errno in _FULL:
            return OutputError(
                f"{model.name}: {self.folder}: {why}; nothing was kept, make room for {model.bytes} bytes"
            )
        return OutputError(
            f"{model.name}: {self.folder} cannot be written: {why}; run `streamd models pull {model.name}` as "
            "somebody who may, with the same CACHE_DIRECTORY, if any"
        )

    @contextmanager
    def _alone(self, model: KnownModel, watch: Watch) -> Iterator[None]:
        """Hold the model's lock. Raises OSError, and FetchError when the watch stops the wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self.folder / f"{model.name}.lock", flags, 0o644)
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

    def _fetch(self, model: KnownModel, watch: Watch) -> None:
        """Under the lock. The file gets its name when all of it is on the disk. Raises FetchError, OSError."""
        part = self.folder / f"{model.name}.onnx.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        # Unbuffered, so that a kill loses nothing of what came.
        with FileIO(os.open(part, flags, 0o644), "r+") as file:
            try:
                self._fill(file, model, watch)
                os.fsync(file.fileno())
            except TransferError as error:
                where = f" from {self.address(model)}" if self.mirror else ""
                raise FetchError(
                    f"{model.name} cannot be fetched{where}: {error}; try again, or {self.advice(model)}"
                ) from error
            except OSError as error:
                # What is kept of it takes the room that is missing.
                if error.errno in _FULL:
                    part.unlink()
                raise
            except _WrongSumError as error:
                part.unlink()
                raise FetchError(
                    f"{model.name}: what {self.address(model)} sent has the SHA-256 {error}, not {model.sha256}: "
                    "damaged on the way, or tampered with; it was removed"
                ) from error
        part.replace(self.path(model))
        sync(self.folder)

    def _fill(self, file: FileIO, model: KnownModel, watch: Watch) -> None:
        """Raises TransferError, _WrongSumError, OSError."""
        kept = os.fstat(file.fileno()).st_size
        download(self.address(model), file, model.bytes, watch)
        if kept and _digest(file) != model.sha256:
            # The earlier part may have come from elsewhere, or be damaged: only a whole file tells on its server.
            watch.tell(f"{model.name}: what was kept of an earlier try does not fit; begun anew")
            file.truncate(0)
            download(self.address(model), file, model.bytes, watch)
        found = _digest(file)
        if found != model.sha256:
            raise _WrongSumError(found)


class _WrongSumError(Exception):
    """All came, and it is something else; the message is its SHA-256."""


def store_of(environ: Mapping[str, str]) -> ModelStore:
    """This machine's store. Raises UsageError when the mirror in the environment is no address."""
    mirror = environ.get(MIRROR) or None
    return ModelStore(cache_folder(environ, "models"), mirror and checked_mirror(mirror, MIRROR))


def checked_mirror(address: str, named: str) -> str:
    """The address of a mirror. Raises UsageError, led by `named`, without the address: it may hold a password.

    http is enough for one's own machines: what comes is compared with the list's SHA-256.
    """
    try:
        parts = urlsplit(address)
        port = parts.port  # raises ValueError for what is no number
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    except ValueError:
        sound = False
    if not sound or not address.isascii() or not address.isprintable() or " " in address:
        raise UsageError(f"{named}: must be http://HOST/FOLDER or https://HOST/FOLDER")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{named}: must hold no user, password, query or fragment: http(s)://HOST/FOLDER")
    return address


def _locked(lock: int) -> bool:
    """Whether the lock could be had now. Raises OSError."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _digest(file: FileIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
