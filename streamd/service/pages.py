"""A small HTTP server for a few fixed pages, in one thread in which nobody waits for a client that dawdles."""

from __future__ import annotations

import io
import selectors
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

from streamd import __version__
from streamd.core.errors import OutputError
from streamd.core.timing import Deadline

Page = Callable[[], tuple[int, str, bytes]]
"""Status, content type, body."""

_TURN_S = 0.2  # how soon `stop` is seen, and who took too long
_ASK_S = 1.0
_ANSWER_S = 1.0
_LONGEST_REQUEST = 1 << 14
_VISITORS = 64


@dataclass(slots=True)
class _Visitor:
    connection: socket.socket
    head: bytearray = field(default_factory=bytearray)
    deadline: Deadline = field(default_factory=lambda: Deadline(_ASK_S))

    def heard_all(self) -> bool:
        """Take what has come; whether the request is there up to its blank line, or no more of it will come."""
        try:
            more = self.connection.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self.head += more
        whole = b"\r\n\r\n" in self.head or b"\n\n" in self.head
        return not more or whole or len(self.head) >= _LONGEST_REQUEST


class PageServer:
    """Answers GET and HEAD on `listen` (host:port); `run` is the body of the thread `http`.

    A request has 1 s to come and its answer 1 s to go; at most 64 clients may be about to ask.
    """

    def __init__(self, listen: str, pages: Mapping[str, Page]) -> None:
        """Binds. Raises OutputError."""
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        self._answerer = _answerer(pages)
        self._visitors: dict[socket.socket, _Visitor] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("" if host == "*" else host, int(port)))
            self._listener.listen(_VISITORS)
        except OSError as error:
            self._listener.close()
            raise OutputError(
                f"metrics.listen: {listen} cannot be bound: {error.strerror}; choose another port, or null"
            ) from error
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        """The port bound to."""

    def run(self, stop: Event) -> None:
        """Answer until `stop` is set."""
        with self._selector, self._listener:
            self._selector.register(self._listener, selectors.EVENT_READ)
            try:
                while not stop.is_set():
                    self._turn()
            finally:
                for connection in list(self._visitors):
                    self._leave(connection)

    def _turn(self) -> None:
        for key, _ in self._selector.select(_TURN_S):
            if key.fileobj is self._listener:
                self._welcome()
                continue
            visitor = key.data
            # Whoever came while 64 waited has sent the first of them away.
            if visitor.connection in self._visitors and visitor.heard_all():
                self._answer(visitor)
        for visitor in [visitor for visitor in self._visitors.values() if not visitor.deadline.left_s()]:
            # Its request may have come while another one was answered. If not, what there is of it is an error.
            visitor.heard_all()
            self._answer(visitor)

    def _welcome(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it hung up before; or no descriptor is left, and others are needed more
        connection.setblocking(False)
        if len(self._visitors) >= _VISITORS:
            self._leave(next(iter(self._visitors)))
        visitor = self._visitors[connection] = _Visitor(connection)
        self._selector.register(connection, selectors.EVENT_READ, visitor)

    def _answer(self, visitor: _Visitor) -> None:
        visitor.connection.settimeout(_ANSWER_S)
        try:
            self._answerer(visitor)
        except OSError:
            pass  # a client that hung up, or takes too long
        finally:
            self._leave(visitor.connection)

    def _leave(self, connection: socket.socket) -> None:
        del self._visitors[connection]
        self._selector.unregister(connection)
        connection.close()


def _answerer(pages: Mapping[str, Page]) -> Callable[[_Visitor], object]:
    class Handler(BaseHTTPRequestHandler):
        server_version = f"streamd/{__version__}"
        sys_version = ""

        def __init__(self, visitor: _Visitor) -> None:
            self._head = bytes(visitor.head)
            # Of its server a handler asks nothing.
            super().__init__(visitor.connection, ("", 0), None)  # type: ignore[arg-type]

        def setup(self) -> None:
            super().setup()
            self.rfile = io.BytesIO(self._head)

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            code, kind, body = page() if page else (404, "text/plain", f"{' '.join(pages)}\n".encode())
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a line a scrape is nothing anybody wants

    return Handler
