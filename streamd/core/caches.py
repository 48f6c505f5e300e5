"""Where what can be had again is kept on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str], kind: str) -> Path:
    """The folder for one kind of thing (`engines`): in systemd's cache folder, else in the user's."""
    given = environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given) / kind
    user = environ.get("XDG_CACHE_HOME", "")
    root = Path(user) if user.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".cache"
    return root / "streamd" / kind


def sync(folder: Path) -> None:
    """Put the names in a folder onto the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
