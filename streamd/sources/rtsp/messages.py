"""Bytes of an RTSP connection become answers, requests of the server, and interleaved packets (RFC 2326)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

_MOST_HEADER = 64 * 1024
_MOST_BODY = 1024 * 1024
_MOST_GARBAGE = 1024 * 1024
"""Bytes that make no sense, in a row, after which the connection is given up."""

_START = re.compile(rb"RTSP/\d\.\d +(\d{3})[^\r\n]*|([A-Z_]{3,16}) +(\S+) +RTSP/\d\.\d *")
_LINE_START = re.compile(
    rb"\$|RTSP/\d\.\d |(?:OPTIONS|ANNOUNCE|REDIRECT|GET_PARAMETER|SET_PARAMETER|TEARDOWN) "
)


class ProtocolError(Exception):
    """The other side does not keep to the protocol; the message says in what."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields: names in lower case, each with all its values in order."""

    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """The first value of a field; None when it is not there."""
        values = self.fields.get(name.lower())
        return values[0] if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field."""
        return self.fields.get(name.lower(), ())


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `status` 200 is success."""

    status: int
    reason: str
    headers: Headers
    body: bytes

    @property
    def sequence(self) -> int | None:
        """Its CSeq; None when it has none, or no number."""
        return _number(self.headers.get("cseq"))


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """Something the server asks of us while it plays."""

    method: str
    url: str
    headers: Headers


@dataclass(frozen=True, slots=True)
class Interleaved:
    """One binary packet of a channel (RFC 2326, 10.12)."""

    channel: int
    data: bytes


def request_bytes(method: str, url: str, fields: Mapping[str, str]) -> bytes:
    """A request without a body, ready to be sent."""
    lines = [f"{method} {url} RTSP/1.0", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer_bytes(request: ServerRequest, status: str) -> bytes:
    """An answer to something the server asked: `status` is "200 OK" or its like."""
    sequence = request.headers.get("cseq") or "0"
    return f"RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n\r\n".encode()


class Framer:
    """Cuts the byte stream. Fed with what was received, it gives what is whole; not thread-safe.

    Between packets some cameras send bytes that belong to nothing: these are passed over and counted in
    `garbage`, up to the next thing that makes sense.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._channels: Collection[int] = ()
        self._in_a_row = 0
        self.garbage = 0

    def expect(self, channels: Collection[int]) -> None:
        """Interleaved packets come on these channels; the even one of each pair carries RTP."""
        self._channels = channels

    def feed(self, data: bytes) -> Iterator[Response | ServerRequest | Interleaved]:
        """Everything that `data` completes, in order. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while start < len(buffer):
                if buffer[start] == 0x24:  # "$"
                    end = self._interleaved_end(start)
                    if end is None:
                        return
                    if end:
                        self._in_a_row = 0
                        found = Interleaved(buffer[start + 1], bytes(buffer[start + 4 : end]))
                        start = end
                        yield found
                        continue
                elif buffer[start] in b"\r\n":
                    start += 1
                    continue
                else:
                    whole = self._message(start)
                    if whole is None:
                        return
                    if whole[1] is not None:
                        self._in_a_row = 0
                        start = whole[0]
                        yield whole[1]
                        continue
                start = self._next_start(start + 1)
        finally:
            del buffer[:start]

    def _interleaved_end(self, start: int) -> int | None:
        """Where this packet ends; 0 when it is none; None when more bytes are needed to tell."""
        buffer = self._buffer
        if len(buffer) < start + 5:
            return None
        if buffer[start + 1] not in self._channels:
            return 0
        size = buffer[start + 2] << 8 | buffer[start + 3]
        # RTP and RTCP are version 2: what is not was no packet's beginning.
        if size < 4 or buffer[start + 4] >> 6 != 2:
            return 0
        end = start + 4 + size
        return end if len(buffer) >= end else None

    def _message(self, start: int) -> tuple[int, Response | ServerRequest | None] | None:
        """Where the message ends, and it; (start, None) when it is none; None when more bytes are needed."""
        buffer = self._buffer
        line_end = buffer.find(b"\n", start, start + _MOST_HEADER)
        if line_end < 0:
            head = bytes(buffer[start : start + 16])
            if self._channels:
                return None if len(head) < 16 and head[:1].isalpha() and _may_begin(head) else (start, None)
            if not _may_begin(head):
                raise ProtocolError("it does not answer in RTSP")
            if len(buffer) - start >= _MOST_HEADER:
                raise ProtocolError("its answer has no end")
            return None
        match = _START.fullmatch(bytes(buffer[start:line_end]).rstrip(b"\r"))
        if match is None:
            if not self._channels:
                raise ProtocolError("it does not answer in RTSP")
            return start, None
        head_end = _blank_line(buffer, line_end, start + _MOST_HEADER)
        if head_end is None:
            if len(buffer) - start >= _MOST_HEADER:
                raise ProtocolError("its answer has no end")
            return None
        headers = _headers(bytes(buffer[line_end + 1 : head_end]))
        size = _number(headers.get("content-length")) or 0
        if not 0 <= size <= _MOST_BODY:
            raise ProtocolError(f"it announces a text of {size} bytes")
        if len(buffer) < head_end + size:
            return None
        end = head_end + size
        if match[1]:
            reason = match[0].split(None, 2)[2:]
            text = reason[0].decode("utf-8", "replace") if reason else ""
            return end, Response(int(match[1]), text, headers, bytes(buffer[head_end:end]))
        method, url = match[2].decode(), match[3].decode("utf-8", "replace")
        return end, ServerRequest(method, url, headers)

    def _next_start(self, start: int) -> int:
        """From where something may begin again; what lies before counts as garbage. Raises ProtocolError."""
        match = _LINE_START.search(self._buffer, start)
        # A beginning may be cut by the buffer's end; the longest word has 14 bytes.
        found = match.start() if match else max(start, len(self._buffer) - 14)
        passed = found - start + 1
        self.garbage += passed
        self._in_a_row += passed
        if self._in_a_row > _MOST_GARBAGE:
            raise ProtocolError("what it sends makes no sense")
        return found


def _may_begin(head: bytes) -> bool:
    """Whether these first bytes can grow to an answer or a request."""
    known = (
        b"RTSP/",
        b"OPTIONS ",
        b"ANNOUNCE ",
        b"REDIRECT ",
        b"GET_PARAMETER ",
        b"SET_PARAMETER ",
        b"TEARDOWN ",
    )
    return any(head.startswith(word[: len(head)]) for word in known)


def _blank_line(buffer: bytearray, start: int, limit: int) -> int | None:
    """Where the header ends (after the blank line), for CRLF and bare LF line ends."""
    for match in re.finditer(rb"\n\r?\n", memoryview(buffer)[start:limit]):
        return start + match.end()
    return None


def _headers(block: bytes) -> Headers:
    fields: dict[str, tuple[str, ...]] = {}
    last: str | None = None
    for line in block.decode("utf-8", "replace").splitlines():
        if line[:1] in (" ", "\t") and last is not None:  # folded
            fields[last] = (*fields[last][:-1], f"{fields[last][-1]} {line.strip()}")
            continue
        name, colon, value = line.partition(":")
        if colon:
            last = name.strip().lower()
            fields[last] = (*fields.get(last, ()), value.strip())
    return Headers(fields)


def _number(text: str | None) -> int | None:
    digits = re.match(r"\s*(\d{1,9})\s*(?:$|[;,])", text) if text else None
    return int(digits[1]) if digits else None
