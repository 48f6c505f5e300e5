"""Bytes of an RTSP connection become answers, requests of the server, and interleaved packets (RFC 2326)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_MOST_HEADER = 64 * 1024
_MOST_LINE = 4 * 1024
"""Of a message's first line between packets, where what looks like its beginning may be garbage."""

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


def request_bytes(method: str, url: str, fields: Mapping[str, str]) -> bytes:
    """A request without a body, ready to be sent."""
    lines = [f"{method} {url} RTSP/1.0", *(f"{name}: {value}" for name, value in fields.items())]
    # Addresses from a command line may hold bytes that are no UTF-8: they go out as they came.
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def answer_bytes(request: ServerRequest, status: str) -> bytes:
    """An answer to something the server asked: `status` is "200 OK" or its like."""
    sequence = request.headers.get("cseq") or "0"
    return f"RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n\r\n".encode()


class Framer:
    """Cuts the byte stream. Fed with what was received, it gives what is whole; not thread-safe.

    Interleaved packets (RFC 2326, 10.12) pile up in `rtp` and `rtcp`, for whoever feeds to take away. Between packets
    some cameras send bytes that belong to nothing: these are passed over and counted in `garbage`, up to the next
    thing that makes sense.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._channels: tuple[int, ...] = ()
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []
        self._in_a_row = 0
        self.garbage = 0

    def expect(self, channel: int) -> None:
        """RTP comes on this channel, RTCP on the next."""
        self._channels = (channel, channel + 1 & 0xFF)

    def feed(self, data: bytes) -> list[Response | ServerRequest]:
        """The messages that `data` completes, in order. Raises ProtocolError."""
        if self._rest:
            data = self._rest + data
        found: list[Response | ServerRequest] = []
        channels, rtp, rtcp = self._channels, self.rtp, self.rtcp
        start, size = 0, len(data)
        while start < size:
            first = data[start]
            if first == 0x24:  # "$"
                if size < start + 5:
                    break
                channel, length = data[start + 1], data[start + 2] << 8 | data[start + 3]
                # RTP and RTCP are version 2: what is not was no packet's beginning.
                if channel in channels and length >= 4 and data[start + 4] >> 6 == 2:
                    end = start + 4 + length
                    if end > size:
                        break
                    (rtp if channel == channels[0] else rtcp).append(data[start + 4 : end])
                    start = end
                    continue
            elif first in b"\r\n":
                start += 1
                continue
            else:
                whole = self._message(data, start)
                if whole is None:
                    break
                if whole[1] is not None:
                    start, message = whole[0], whole[1]
                    found.append(message)
                    continue
            start = self._next_start(data, start + 1)
        if found or rtp:
            self._in_a_row = 0
        self._rest = data[start:]
        return found

    def _message(self, buffer: bytes, start: int) -> tuple[int, Response | ServerRequest | None] | None:
        """Where the message ends, and it; (start, None) when it is none; None when more bytes are needed."""
        line_end = buffer.find(b"\n", start, start + _MOST_HEADER)
        if line_end < 0:
            head = buffer[start : start + 16]
            if self._channels:
                grows = _may_begin(head) and len(buffer) - start < _MOST_LINE
                return None if grows else (start, None)
            if not _may_begin(head):
                raise ProtocolError("it does not answer in RTSP")
            if len(buffer) - start >= _MOST_HEADER:
                raise ProtocolError("its answer has no end")
            return None
        match = _START.fullmatch(buffer[start:line_end].rstrip(b"\r"))
        if match is None:
            if not self._channels:
                raise ProtocolError("it does not answer in RTSP")
            return start, None
        head_end = _blank_line(buffer, line_end, start + _MOST_HEADER)
        if head_end is None:
            if len(buffer) - start >= _MOST_HEADER:
                raise ProtocolError("its answer has no end")
            return None
        headers = _headers(buffer[line_end + 1 : head_end])
        size = _number(headers.get("content-length")) or 0
        if not 0 <= size <= _MOST_BODY:
            raise ProtocolError(f"it announces a text of {size} bytes")
        if len(buffer) < head_end + size:
            return None
        end = head_end + size
        if match[1]:
            reason = match[0].split(None, 2)[2:]
            text = reason[0].decode("utf-8", "replace") if reason else ""
            return end, Response(int(match[1]), text, headers, buffer[head_end:end])
        method, url = match[2].decode(), match[3].decode("utf-8", "replace")
        return end, ServerRequest(method, url, headers)

    def _next_start(self, buffer: bytes, start: int) -> int:
        """From where something may begin again; what lies before counts as garbage. Raises ProtocolError."""
        match = _LINE_START.search(buffer, start)
        # A beginning may be cut by the buffer's end; the longest word has 14 bytes.
        found = match.start() if match else max(start, len(buffer) - 14)
        passed = found - start + 1
        self.garbage += passed
        self._in_a_row += passed
        if self._in_a_row > _MOST_GARBAGE:
            raise ProtocolError("what it sends makes no sense")
        return found


def quotable(text: str) -> str:
    """What the other side says, as a message can hold it: at most 80 characters in one line."""
    return "".join(character if character.isprintable() else "�" for character in text[:80].strip())


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


def _blank_line(buffer: bytes, start: int, limit: int) -> int | None:
    """Where the header ends (after the blank line), for CRLF and bare LF line ends."""
    for match in re.finditer(rb"\n\r?\n", memoryview(buffer)[start:limit]):
        return start + match.end()
    return None


def _headers(block: bytes) -> Headers:
    fields: dict[str, tuple[str, ...]] = {}
    last: str | None = None
    for line in block.decode("utf-8", "replace").splitlines():
        if line[:1] in (" ", "\t") and last is not None:  # folded
            fields[last] = (*fields[last][:-1], f"{fields[last][-1]} {line.strip()}".strip())
            continue
        name, colon, value = line.partition(":")
        if colon:
            last = name.strip().lower()
            fields[last] = (*fields.get(last, ()), value.strip())
    return Headers(fields)


def _number(text: str | None) -> int | None:
    digits = re.match(r"\s*(\d{1,9})\s*(?:$|[;,])", text) if text else None
    return int(digits[1]) if digits else None
