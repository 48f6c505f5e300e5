"""What people name on a command line becomes a list of sources: files, folders, globs, addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from streamd.core.errors import MissingFileError
from streamd.sources.address import path_of, scheme_of, shown

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEOS = frozenset(
    f".{suffix}"
    for suffix in (
        *("mp4", "m4v", "mov", "3gp", "mkv", "webm", "avi", "flv", "wmv", "asf", "ogv", "mxf"),
        *("ts", "m2ts", "mts", "mpg", "mpeg", "vob", "y4m", "ivf", "gif", "dav"),
        *("h264", "264", "h265", "265", "hevc", "mjpeg", "mjpg"),
    )
)


def expand(arguments: Iterable[str]) -> list[str]:
    """The sources that the arguments name, in their order; what is named twice is there twice.

    A folder stands for the videos and pictures in and below it, sorted by path, hidden ones left out. What
    exists under exactly the given name is never a glob; a glob follows the shell's rules and `**`. Addresses
    and files that do not exist are handed on untouched: opening them says what is wrong. Raises
    MissingFileError for a folder or glob that holds nothing.
    """
    found: list[str] = []
    for argument in arguments:
        found += _expand_one(argument)
    return found


def _expand_one(argument: str) -> list[str]:
    if scheme_of(argument) != "file":
        return [argument]
    path = path_of(argument)
    if os.path.isdir(path):
        inside = _folder(path)
        if not inside:
            raise MissingFileError(f"{shown(argument)}: no video or picture in this folder; name the files")
        return inside
    if os.path.lexists(path) or not glob.has_magic(path):
        return [argument]
    matches = [name for match in sorted(glob.glob(path, recursive=True)) for name in _match(match)]
    if not matches:
        raise MissingFileError(f"{shown(argument)}: nothing matches; check the folder and the pattern")
    return matches


def _match(path: str) -> list[str]:
    return _folder(path) if os.path.isdir(path) else [_unambiguous(path)]


def _folder(path: str) -> list[str]:
    found: list[str] = []
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += (
            _unambiguous(os.path.join(folder, name))
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURES | VIDEOS
        )
    return sorted(found, key=lambda name: Path(path_of(name)).parts)


def _unambiguous(path: str) -> str:
    # A file in the working folder may be called `file:a.mp4` or `rtsp:`; from here on it must stay a file.
    return path if scheme_of(path) == "file" and path_of(path) == path else f"file:{path}"
