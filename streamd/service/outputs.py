"""The text files of an offline run: JSON Lines and CSV. A line is in a file whole, or not at all."""

from __future__ import annotations

import csv
import io
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol

from streamd.bus import wire
from streamd.bus.messages import offline_result
from streamd.core.errors import OutputError, UsageError
from streamd.pipeline.outbox import Result


class Sink(Protocol):
    """Takes the results of an offline run, in order, in the main thread. Errors are OutputError."""

    def begin(self, source: str, index: int) -> None: ...

    def result(self, result: Result) -> None: ...

    def end(self, end: wire.OfflineEnd) -> None: ...

    def close(self) -> None: ...


class LineFile:
    """A file, or stdout for `-`, that takes whole lines. A full disk leaves all lines written before it whole."""

    def __init__(self, path: str, *, force: bool) -> None:
        self.name = "stdout" if path == "-" else path
        self.at = 0
        """How many bytes were written."""
        self._regular = path != "-"
        if path == "-":
            if sys.stdout is None:
                raise OutputError("stdout is closed; name a file instead of -")
            sys.stdout.flush()
            self._descriptor = os.dup(sys.stdout.fileno())
        else:
            self._descriptor = create(Path(path), force=force)

    def write(self, lines: bytes) -> None:
        """Append lines. Raises OutputError (and cuts what was written of them) when they do not fit."""
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            if self._regular:
                # A device, such as /dev/full, has no length to cut.
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self.at)
            raise OutputError(write_failure(self.name, error)) from error
        self.at += len(lines)

    def close(self) -> None:
        """Close the file; written lines stay. What never got one is removed: it would be in the way of a retry."""
        if self._descriptor >= 0:
            try:
                os.close(self._descriptor)
            except OSError as error:
                raise OutputError(write_failure(self.name, error)) from error
            finally:
                self._descriptor = -1
                if self._regular and not self.at:
                    remove_empty(Path(self.name))

    def __enter__(self) -> LineFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonLines:
    """One JSON object a result, one to close each input (wire.OfflineResult, wire.OfflineEnd)."""

    def __init__(self, file: LineFile, *, timings: bool) -> None:
        self._file = file
        self._timings = timings
        self._source, self._index = "", 0

    def begin(self, source: str, index: int) -> None:
        self._source, self._index = source, index

    def result(self, result: Result) -> None:
        line = offline_result(result, self._source, self._index, timings=self._timings)
        self._file.write(wire.encode(line) + b"\n")

    def end(self, end: wire.OfflineEnd) -> None:
        self._file.write(wire.encode(end) + b"\n")

    def close(self) -> None:
        self._file.close()


class CsvRows:
    """One row an object, with a header line."""

    COLUMNS = ("source", "frame", "pts", "class_id", "class", "score", "x1", "y1", "x2", "y2")

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._source, self._index = "", 0

    def begin(self, source: str, index: int) -> None:
        self._source, self._index = source, index
        if not self._file.at:
            self._write([self.COLUMNS])

    def result(self, result: Result) -> None:
        line = offline_result(result, self._source, self._index, timings=False)
        pts = line.pts if isinstance(line.pts, float) else ""
        self._write(
            [
                (line.source, line.frame, pts, seen.class_id, seen.class_name, seen.score, *seen.box)
                for seen in line.objects
            ]
        )

    def end(self, end: wire.OfflineEnd) -> None:
        pass

    def close(self) -> None:
        self._file.close()

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())


def refuse_overlaps(outputs: Sequence[Path], read: Sequence[Path]) -> None:
    """Raises UsageError when an output is one of the files that are `read`, or two outputs are one file.

    Opening such an output would empty what is still to be read. Links are followed; devices and pipes, which
    keep nothing, may be named twice.
    """
    taken = {identity: "is read by this run" for path in read if (identity := _identity(path)) is not None}
    for path in outputs:
        identity = _identity(path)
        if identity is None:
            continue
        if identity in taken:
            raise UsageError(f"{path} {taken[identity]} and cannot be an output as well; choose another name")
        taken[identity] = "is named for another output"


def _identity(path: Path) -> tuple[int, int] | str | None:
    """The same for two names of one file; None for what is no regular file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def create(path: Path, *, force: bool) -> int:
    """A descriptor of a new file. Raises UsageError when it exists (without `force`), OutputError otherwise."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if force else os.O_EXCL)
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError as error:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file") from error
        raise UsageError(f"{path} exists; choose another name or overwrite it with --force") from error
    except FileNotFoundError as error:
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first") from error
    except IsADirectoryError as error:
        raise OutputError(f"{path} is a folder; name a file") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another folder") from error


def remove_empty(path: Path) -> None:
    """Remove a file that holds nothing; never a device, pipe or link."""
    with suppress(OSError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            path.unlink()


def write_failure(name: str, error: OSError) -> str:
    """One line for an output that cannot be written any more."""
    if isinstance(error, BrokenPipeError):
        return f"{name}: the reader has gone"
    return f"{name} cannot be written any more: {error.strerror}; what is in it so far can be used"
