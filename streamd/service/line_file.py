"""A text file that is written line by line: a line is in it whole, or not at all."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from streamd.core.errors import OutputError, UsageError


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
