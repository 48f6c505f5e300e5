"""The text files of an offline run: JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from streamd.bus import wire
from streamd.bus.messages import offline_result
from streamd.core.errors import UsageError
from streamd.pipeline.outbox import Result
from streamd.service.line_file import LineFile


class Sink(Protocol):
    """Takes the results of an offline run, in order, in the main thread. Errors are OutputError."""

    def begin(self, source: str, index: int) -> None: ...

    def result(self, result: Result) -> None: ...

    def end(self, end: wire.OfflineEnd) -> None: ...

    def close(self) -> None: ...


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
