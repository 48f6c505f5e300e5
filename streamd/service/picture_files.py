"""Pictures from the bus as files: the newest of each stream, or all of them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from streamd.bus import wire
from streamd.core.errors import OutputError, StreamdError, UsageError
from streamd.core.text import printable
from streamd.service.address import is_stream_id
from streamd.service.line_file import write_failure
from streamd.service.render import annotate

_SUFFIXES = (".jpg", ".jpeg", ".png")


class PictureFiles:
    """Writes annotated pictures. A file is there whole or not at all; the newest replaces the one before it."""

    def __init__(self, out: Path, suffix: str, *, keep: bool) -> None:
        """out: a folder, made if it is missing, with a file a stream; or one file, by its suffix.

        suffix: of the files in a folder. keep: each picture has a file of its own. Raises OutputError, UsageError.
        """
        single = out.suffix.lower() in _SUFFIXES and not out.is_dir()
        if single and keep:
            raise UsageError(f"--keep: {out} is one file; name a folder")
        self._single = out if single else None
        self._folder = out.parent if single else out
        self._suffix = out.suffix.lower() if single else suffix
        self._keep = keep
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self._folder} cannot be made: {error.strerror}; choose another folder"
            ) from error

    @property
    def single(self) -> bool:
        """Whether all pictures replace one file."""
        return self._single is not None

    def write(self, result: wire.ResultMessage, jpeg: bytes) -> Path:
        """Draw the result into its picture and write it; where it is now.

        Raises OutputError, StreamdError for what is no picture.
        """
        path = self._single or self._folder / f"{self._name(result)}{self._suffix}"
        picture = annotate(jpeg, result.objects, self._suffix)
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            draft.write_bytes(picture)
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise OutputError(write_failure(str(path), error)) from error
        return path

    def _name(self, result: wire.ResultMessage) -> str:
        # It comes from outside and becomes a file's name: nothing else will do.
        if not is_stream_id(result.stream):
            raise StreamdError(
                f"{printable(result.stream)[:50]!r} is no name of a stream; check the endpoint"
            )
        if not self._keep:
            return result.stream
        at = _moment(result.received_us)
        return f"{result.stream}-{at}-{result.seq:06d}"


def _moment(wall_us: int) -> str:
    """UTC, such that names sort by time."""
    try:
        at = datetime.fromtimestamp(wall_us / 1e6, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise StreamdError("a picture with an impossible time; check the endpoint") from error
    return re.sub(r"[-:]", "", at.isoformat(timespec="milliseconds")).replace("+0000", "Z")
