"""Video files in any container, and picture files."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import path_of, shown
from streamd.sources.advice import set_aside
from streamd.sources.inputs import PICTURES
from streamd.sources.libav.ending import is_short
from streamd.sources.libav.faults import plain
from streamd.sources.libav.options import file_options
from streamd.sources.libav.reading import LibavSource
from streamd.sources.libav.streams import pick
from streamd.sources.source import SourceRequest

_HEAD = 512
# By content, not by name: libav takes a name with % or a wrong suffix for something else.
_PICTURE_KINDS = (
    (b"\xff\xd8\xff", "jpeg_pipe"),
    (b"\x89PNG", "png_pipe"),
    (b"BM", "bmp_pipe"),
    (b"RIFF", "webp_pipe"),
    (b"II*\0", "tiff_pipe"),
    (b"MM\0*", "tiff_pipe"),
)


def open_file(request: SourceRequest, stop: threading.Event) -> LibavSource:
    """Open a video or picture file and decode its first picture.

    A file opens nothing but itself and files beside it, never the network. Blocks on the disk only. Raises
    SourceError: NOT_FOUND when it is missing, no regular file or not readable; CODEC or CORRUPT when there is
    no video in it.
    """
    path = path_of(request.url)
    head = _head(path, shown(request.url))
    container = _open(path, head, request)
    try:
        source = LibavSource(
            container,
            pick(container, request),
            request,
            live=False,
            stop=stop,
            reopen=(lambda: open_file(replace(request, threads=1), stop)) if request.threads != 1 else None,
        )
    except BaseException:
        container.close()
        raise
    if is_short(head, os.path.getsize(path)):
        source.note_cut("the file is shorter than its format allows")
    for line in set_aside(request, live=False):
        source.note(line)
    try:
        source.look_ahead()
    except BaseException:
        source.close()
        raise
    return source


def _head(path: str, name: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a folder" if os.path.isdir(path) else "not a regular file"
            raise SourceError(Reason.NOT_FOUND, f"{name}: this is {kind}; name a video or picture file")
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise SourceError(Reason.NOT_FOUND, f"{name}: there is no such file; check the path") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        raise SourceError(Reason.NOT_FOUND, f"{name}: cannot be read: {why.lower()}") from error
    if not head:
        raise SourceError(Reason.CORRUPT, f"{name}: the file is empty; get a whole copy")
    return head


def _open(path: str, head: bytes, request: SourceRequest) -> InputContainer:
    form = None
    if Path(path).suffix.lower() in PICTURES:
        form = next((kind for magic, kind in _PICTURE_KINDS if head.startswith(magic)), None)
    try:
        # `file:` keeps libav from reading a protocol out of a name with a colon.
        return av.open(f"file:{path}", format=form, options=file_options(), metadata_errors="replace")
    except av.error.FFmpegError as error:
        name = shown(request.url)
        if b"git-lfs" in head:
            raise SourceError(
                Reason.CORRUPT, f"{name}: this is a Git LFS pointer, not the video; run `git lfs pull`"
            ) from error
        raise SourceError(
            Reason.CORRUPT,
            f"{name}: not a video, or cut before anything can be read ({plain(error)}); get a whole copy",
        ) from error
