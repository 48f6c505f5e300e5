"""The text files of an offline run: JSON Lines and CSV. A line is in a file whole, or not at all."""

from __future__ import annotations

import csv
import io
import os
import sys
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
        self._at = 0
        self._regular = path != "-"
        if path == "-":
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
                    os.ftruncate(self._descriptor, self._at)
            raise OutputError(write_failure(self.name, error)) from error
        self._at += len(lines)

    def close(self) -> None:
        """Close the file; written lines stay."""
        if self._descriptor >= 0:
            try:
                os.close(self._descriptor)
            except OSError as error:
                raise OutputError(write_failure(self.name, error)) from error
            finally:
                self._descriptor = -1

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
        self._write([self.COLUMNS])

    def begin(self, source: str, index: int) -> None:
        self._source, self._index = source, index

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


def write_failure(name: str, error: OSError) -> str:
    """One line for an output that cannot be written any more."""
    if isinstance(error, BrokenPipeError):
        return f"{name}: the reader has gone"
    return f"{name} cannot be written any more: {error.strerror}; what is in it so far is complete"
