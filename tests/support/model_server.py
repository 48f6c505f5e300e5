"""An HTTP server on localhost with one file, which answers as badly as it is told to."""

from __future__ import annotations

import contextlib
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """One answer; as it stands, a good one."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """Instead of the right ones; an empty one is left out."""
    body: bytes | None = None
    """Instead of the file."""
    ranges: bool = True
    """Whether a range is given that is asked for."""
    cut_after: int | None = None
    """The connection ends after so many bytes of the body, of which all were announced."""
    hold_after: int | None = None
    """After so many bytes nothing is sent until `ModelServer.go_on`."""
    endless: bool = False
    """The body is sent again and again, without a length."""


class ModelServer:
    """Gives `content` for every path. `answers` are used up one by one; then good ones are given."""

    def __init__(self, content: bytes, *answers: Answer, certificate: Path | None = None) -> None:
        self.content = content
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []
        """Path and Range header of each request."""
        self.sent = 0
        """Bytes of bodies."""
        self.held = threading.Event()
        """An answer stands at its `hold_after`."""
        self.go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if certificate is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self._scheme == "http" else "localhost"
        return f"{self._scheme}://{host}:{self._server.server_address[1]}/models"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [range_ for _, range_ in self.asked]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler_of(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append((self.path, asked))
            answer = server.answers.pop(0) if server.answers else Answer()
            with contextlib.suppress(OSError):  # whoever has enough goes away
                _give(self, answer, asked, server)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _give(client: BaseHTTPRequestHandler, answer: Answer, asked: str | None, server: ModelServer) -> None:
    body = server.content if answer.body is None else answer.body
    status, headers = answer.status, {"Content-Type": "application/octet-stream"}
    if status == 200 and asked is not None and answer.ranges:
        first = int(asked.removeprefix("bytes=").removesuffix("-"))
        status = 206 if first < len(body) else 416
        headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        body = body[first:] if status == 206 else b""
    if not answer.endless:
        headers["Content-Length"] = str(len(body))
    client.send_response(status)
    for name, value in {**headers, **answer.headers}.items():
        if value:
            client.send_header(name, value)
    client.end_headers()
    if answer.endless:
        while True:
            client.wfile.write(body)
            server.sent += len(body)
    first, rest = len(body) if answer.hold_after is None else answer.hold_after, b""
    if answer.cut_after is not None:
        body = body[: answer.cut_after]
    body, rest = body[:first], body[first:]
    client.wfile.write(body)
    server.sent += len(body)
    if answer.hold_after is not None:
        server.held.set()
        server.go_on.wait(60)
        client.wfile.write(rest)
        server.sent += len(rest)
