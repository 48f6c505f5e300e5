"""The file of a recorded bus: JSON Lines, a message each (docs/WIRE.md, "Recordings")."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import msgspec
from msgspec import UNSET, Struct, UnsetType

from streamd import __version__
from streamd.core.errors import StreamdError, UsageError

SCHEMA = "streamd.recording/1"
_LONGEST_HEAD = 1 << 16
_LONGEST_LINE = 1 << 28  # bytes: a picture in base64 is far below
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error)


Micros = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Head(Struct, kw_only=True, tag_field="schema", tag=SCHEMA):
    """The first line. `started_us`: the wall time that all `after_us` count from."""

    streamd: str
    endpoint: str
    started_us: int


class Line(Struct, kw_only=True, omit_defaults=True):
    """One message, `after_us` (monotonic) after the start.

    Topic and header stand in base64 where they are no text, or no JSON on one line; `more_base64` has the parts
    behind.
    """

    after_us: Micros
    topic: str | UnsetType = UNSET
    topic_base64: str | UnsetType = UNSET
    header: msgspec.Raw | UnsetType = UNSET
    header_base64: str | UnsetType = UNSET
    more_base64: list[str] = []


class End(Struct, kw_only=True):
    """The last line: a recording without it was cut. `lost`: results that the recorder did not get."""

    after_us: Micros
    end: bool = True
    messages: int
    lost: int


_encode = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_decode_head = msgspec.json.Decoder(Head).decode
_decode_line = msgspec.json.Decoder(Line).decode
_decode_end = msgspec.json.Decoder(End).decode


def head_line(endpoint: str, started_us: int) -> bytes:
    """The first line of a recording that begins now."""
    return _encode(Head(streamd=__version__, endpoint=endpoint, started_us=started_us)) + b"\n"


def message_line(after_us: int, parts: Sequence[bytes]) -> bytes:
    """The line of a message; the topic is the first part."""
    line = Line(after_us=after_us, more_base64=[_base64(part) for part in parts[2:]])
    try:
        line.topic = parts[0].decode()
    except UnicodeDecodeError:
        line.topic_base64 = _base64(parts[0])
    if len(parts) > 1:
        if _is_json_line(parts[1]):
            line.header = msgspec.Raw(parts[1])
        else:
            line.header_base64 = _base64(parts[1])
    return _encode(line) + b"\n"


def end_line(after_us: int, messages: int, lost: int) -> bytes:
    """The last line."""
    return _encode(End(after_us=after_us, messages=messages, lost=lost)) + b"\n"


def _is_json_line(text: bytes) -> bool:
    """Whether it can stand in a line as it is, and be read out of it again byte for byte."""
    if b"\n" in text or b"\r" in text or text != text.strip():
        return False
    try:
        text.decode()
        _decode_json(text)
    except _UNREADABLE:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message of a recording: what came, and when, counted from its start."""

    after_us: int
    parts: list[bytes]


class Recording:
    """Reads a recording. `fault` says what is wrong with it, once `messages` has come to that place."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Reads the first line. Raises UsageError for what is no recording, StreamdError when it cannot be read."""
        self.name = name
        self.fault: str | None = None
        self.length_us = 0
        """How long what was read so far took."""
        self._file = file
        self._number = 1
        first = self._line(_LONGEST_HEAD)
        try:
            self.head = _decode_head(first)
        except _UNREADABLE as error:
            raise UsageError(_refusal(name, first)) from error
        self._body = file.tell() if file.seekable() else None

    def rewind(self) -> None:
        """Read the messages anew; only for files that can seek."""
        if self._body is None:
            raise UsageError(f"{self.name}: cannot be played again from its start; name a file")
        self._file.seek(self._body)
        self._number = 1

    def messages(self) -> Iterator[Recorded]:
        """The messages from here on, up to the end or the first one that is not whole. Raises StreamdError."""
        while line := self._line(_LONGEST_LINE):
            self._number += 1
            try:
                message = _message_of(line)
            except _UNREADABLE:
                if self._is_end(line):
                    return
                cut = "is not whole" if not line.endswith(b"\n") else "is no line of a recording"
                self.fault = f"{self.name}:{self._number}: {cut}; what stands before it can be used"
                return
            self.length_us = message.after_us
            yield message
        self.fault = f"{self.name}: was cut: it has no end; what is in it can be used"

    def _is_end(self, line: bytes) -> bool:
        try:
            last = _decode_end(line)
        except _UNREADABLE:
            return False
        if last.end:
            self.length_us = max(self.length_us, last.after_us)
        return last.end

    def _line(self, most: int) -> bytes:
        try:
            return self._file.readline(most)
        except OSError as error:
            raise StreamdError(f"{self.name} cannot be read: {error.strerror}; try a copy of it") from error


def _message_of(line: bytes) -> Recorded:
    """Raises one of `_UNREADABLE`."""
    if not line.endswith(b"\n"):
        raise msgspec.DecodeError("cut")
    found = _decode_line(line)
    if isinstance(found.topic, str):
        parts = [found.topic.encode()]
    elif isinstance(found.topic_base64, str):
        parts = [_bytes(found.topic_base64)]
    else:
        raise msgspec.DecodeError("no topic")
    if isinstance(found.header, msgspec.Raw):
        parts.append(bytes(found.header))
    elif isinstance(found.header_base64, str):
        parts.append(_bytes(found.header_base64))
    return Recorded(found.after_us, parts + [_bytes(part) for part in found.more_base64])


def _refusal(name: str, first: bytes) -> str:
    if not first:
        return f"{name} is empty; a recording has a first line ({SCHEMA})"
    if b'"schema":"streamd.recording/' in first.replace(b" ", b"")[:200] and SCHEMA.encode() not in first:
        return f"{name} is a recording of a newer version than {SCHEMA}; update streamd on this side"
    return f"{name} is no recording; make one with `streamd record {name}`"


def _base64(part: bytes) -> str:
    return base64.b64encode(part).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
