"""Answers as a camera writes them, well-formed or not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn

from tests.support.camera_options import Endless, Faults
from tests.support.camera_wire import Request, Wire

_REASONS = {
    451: "Parameter Not Understood",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    457: "Invalid Range",
    461: "Unsupported Transport",
    551: "Option not supported",
}


@dataclass
class Answer:
    """A status, headers in their order, and a body."""

    code: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def add(self, name: str, value: str) -> Answer:
        """One more header; the answer itself is returned."""
        self.headers.append((name, value))
        return self


def written(answer: Answer, request: Request, faults: Faults) -> bytes:
    """The bytes of an answer, in the hand that the faults ask for."""
    number: int | None = int(request.headers.get("cseq", "0"))
    if faults.cseq is not None and number is not None:
        number = faults.cseq(number)
    headers = [("CSeq", str(number))] if number is not None else []
    headers += [("Server", "camera"), *answer.headers]
    if answer.body:
        headers.append(("Content-Length", str(len(answer.body))))
    lines = [_status(answer.code), *(_header(name, value, faults) for name, value in headers)]
    head = "".join(line + "\r\n" for line in [*lines, ""])
    return (head.replace("\r\n", "\n") if faults.bare_lf else head).encode() + answer.body


def endless(wire: Wire, request: Request, kind: Endless, drip_s: float) -> NoReturn:
    """Answer without end, until either side closes."""
    head = f"{_status(200)}\r\nCSeq: {request.headers.get('cseq', '0')}\r\n"
    if kind == "line":
        head += "X-Filler: "
    elif kind != "header":
        head += "Content-Type: application/sdp\r\n"
        head += "Content-Length: 1000000000000\r\n\r\n" if kind == "body" else "\r\n"
        head += "v=0\r\n"
    wire.send(head.encode())
    for number in itertools.count():
        piece = {"line": "a" * 64, "header": f"X-Filler-{number}: {'a' * 50}\r\n"}
        wire.send(piece.get(kind, f"a=filler-{number}:{'a' * 50}\r\n").encode())
        if drip_s:
            wire.stall(drip_s)
    raise AssertionError


def _status(code: int) -> str:
    reason = _REASONS.get(code)
    if reason is None:
        reason = HTTPStatus(code).phrase if code in {status.value for status in HTTPStatus} else "Unknown"
    return f"RTSP/1.0 {code} {reason}"


def _header(name: str, value: str, faults: Faults) -> str:
    if faults.lower_case:
        name = name.lower()
    if faults.folded:
        return f"{name}:\r\n\t" + value.replace(", ", ",\r\n  ")
    return f"{name}:  \t {value} \t" if faults.odd_space else f"{name}: {value}"
