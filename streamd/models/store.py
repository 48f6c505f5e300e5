"""Where known models lie on this machine; each is checked at each use. `pulling` brings them here.

    CACHE/<name>.onnx         the model; counts only when its size and SHA-256 are the list's
    CACHE/<name>.onnx.part    what came so far of one that is being fetched, or that broke off
    CACHE/<name>.lock         held alone while it is fetched

A file that somebody copied to the first name is as good as one that was fetched. Locks are the kernel's (flock): a
killed process holds none.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from streamd.core.caches import cache_folder
from streamd.core.errors import UsageError
from streamd.core.files import at_once
from streamd.models.catalogue import KnownModel

MIRROR = "STREAMD_MODELS_URL"
"""The environment variable with the address of a folder that holds <name>.onnx of each model."""


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
            with open(path, "rb", opener=at_once) as file:
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

    def advice(self, model: KnownModel) -> str:
        """What to do where nothing can be fetched."""
        return f"fetch {model.address} on another machine and copy it to {self.path(model)}"


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
