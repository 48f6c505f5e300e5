"""The folder of engines: whether it can be written, and how much room there is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from streamd.core.caches import cache_folder
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item
from streamd.diagnosis.nvidia import has_gpu

_GIB = 1 << 30
_ROOM = _GIB
"""Below this an engine of a large model, and TensorRT's measurements, may not fit."""


def cache(case: Case) -> Iterator[Item]:
    """Needed where TensorRT runs: without it each start builds for minutes, or another provider serves."""
    config = case.config
    if config is not None and "tensorrt" not in config.runtime.providers:
        yield Item(
            name="cache", state="unused", found="only TensorRT's engines are kept, and it is not asked for"
        )
        return
    chosen = config.runtime.cache_dir if config is not None else None
    folder = chosen or cache_folder(case.environ, "engines")
    # One that the configuration names is meant to be used; the default one only is where there is a GPU.
    needed = config is not None and (chosen is not None or has_gpu(case))
    problem = _unwritable(folder)
    if problem is not None:
        there, why = problem
        fix = f"chown {os.geteuid()} {quote(str(there))}\n# or name another folder: runtime.cache_dir"
        if "look into" in why:
            fix = f"# let this user into {there}, or name another folder: runtime.cache_dir"
        if "ead-only" in why:
            fix = "# name another folder (runtime.cache_dir); under systemd add ReadWritePaths="
        found = f"{folder}: {why}"
        yield Item(name="cache", state="wrong", found=found, fix=fix, exit_code=1 if needed else 0)
        return
    room = os.statvfs(_nearest(folder))
    free = room.f_bavail * room.f_frsize
    found = f"{folder}, {free / _GIB:.1f} GiB free"
    if free >= _ROOM:
        yield Item(name="cache", state="ok", found=found)
    else:
        fix = f"# make room; what takes it:\ndu -xhd1 {quote(str(_nearest(folder)))}"
        yield Item(name="cache", state="wrong", found=f"{found}: an engine may not fit", fix=fix)


def _nearest(folder: Path) -> Path:
    """The folder, or the one above it in which it would be made."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _unwritable(folder: Path) -> tuple[Path, str] | None:
    """Where nothing can be made, and why; None when something can. What is made to try has no name, or is gone."""
    place = _nearest(folder)
    if not place.is_dir():
        return place, f"{place} is no folder"
    if not os.access(place, os.X_OK, effective_ids=True):
        return place, f"this user may not look into {place}"
    try:
        _make_something(place)
    except PermissionError:
        return place, f"this user may not write into {place}"
    except OSError as error:
        return place, f"{place} cannot be written: {error.strerror}"
    return None


def _make_something(place: Path) -> None:
    try:
        os.close(os.open(place, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        # A file system, or a kernel, that knows no files without a name.
        trial = place / f".streamd-doctor-{os.getpid()}"
        trial.mkdir()
        trial.rmdir()
