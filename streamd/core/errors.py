"""Every failure that streamd expects, with the exit code it ends a command with.

A message is one line: which stream or file, what happened, what to do next. Foreign errors become one of
these in the module that imports the foreign library, with `raise ... from error`.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a stream is not live, as published in events (a closed list)."""

    AUTH = "auth"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    CODEC = "codec"
    CORRUPT = "corrupt"
    EOF = "eof"
    OPERATOR = "operator"
    SIZE_CHANGED = "size_changed"
    CODEC_CHANGED = "codec_changed"
    CLOCK_JUMP = "clock_jump"
    ERROR = "error"


class StreamdError(Exception):
    """Failed in a way that a restart, or another try, may mend."""

    exit_code = 1


class UsageError(StreamdError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(StreamdError):
    """The configuration file cannot be used as it is written."""

    exit_code = 2


class ModelError(StreamdError):
    """A model file is there and cannot be used."""

    exit_code = 2


class MissingFileError(StreamdError):
    """A file that is named is not there, or may not be read: a restart may find it."""


class FetchError(StreamdError):
    """A known model is not here and cannot be fetched now."""


class ProviderError(StreamdError):
    """The asked execution provider does not run here and `fallback: false` forbids the next one."""


class OutputError(StreamdError):
    """A result cannot be written or published: disk full, folder missing, endpoint in use."""


class CrashError(StreamdError):
    """A thread of the daemon failed. Whatever it was, it had worked before: a restart may mend it."""


class SourceError(StreamdError):
    """A source could not be opened, or could not be read to its end."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
