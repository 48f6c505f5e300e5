"""The pages over HTTP: right answers, and nobody who waits for a client that does not ask."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from streamd.core.errors import OutputError
from streamd.service import pages
from streamd.service.pages import PageServer

pytestmark = pytest.mark.slow

SLOW = 0.3


@pytest.fixture
def server() -> Iterator[PageServer]:
    def slow() -> tuple[int, str, bytes]:
        time.sleep(SLOW)
        return 200, "text/plain", b"slow\n"

    found = PageServer(
        "127.0.0.1:0", {"/ok": lambda: (200, "text/plain", b"ok\n"), "/slow": slow, "/large": _large}
    )
    stop = threading.Event()
    thread = threading.Thread(target=found.run, args=(stop,))
    thread.start()
    yield found
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def _large() -> tuple[int, str, bytes]:
    return 200, "text/plain", b"x" * 50_000_000


def ask(server: PageServer, method: str, path: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def raw(server: PageServer, *parts: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_pages_are_answered(server: PageServer) -> None:
    assert ask(server, "GET", "/ok")[:2] == (200, b"ok\n")
    assert ask(server, "GET", "/ok?x=1")[:2] == (200, b"ok\n")
    status, body, headers = ask(server, "HEAD", "/ok")
    assert (status, body, headers["Content-Length"]) == (200, b"", "3")
    status, body, _ = ask(server, "GET", "/other")
    assert (status, body) == (404, b"/ok /slow /large\n")
    assert ask(server, "POST", "/ok")[0] == 501
    # In pieces, and with the line ends of who types it by hand.
    assert raw(server, b"GET /o", b"k HTTP/1.0\n", b"\n").endswith(b"ok\n")


def test_clients_that_do_not_ask_hold_up_nobody(server: PageServer) -> None:
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(40)
        ]
        silent[0].sendall(b"GET /ok HT")
        # One after the other they would take 40 s.
        started = time.monotonic()
        assert ask(server, "GET", "/ok")[:2] == (200, b"ok\n")
        assert time.monotonic() - started < 10
        # Each is told that its request is none, or just let go, after a second.
        for connection in silent:
            connection.settimeout(30)
            assert b"200" not in connection.recv(100)


def test_more_clients_than_can_wait_send_the_first_away(server: PageServer) -> None:
    with contextlib.ExitStack() as stack:
        many = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(pages._VISITORS + 40)
        ]
        assert ask(server, "GET", "/ok")[:2] == (200, b"ok\n")
        many[0].settimeout(30)
        assert many[0].recv(100) == b""
        assert len(server._visitors) <= pages._VISITORS


def test_a_client_that_does_not_read_is_let_go(server: PageServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        started = time.monotonic()
        assert ask(server, "GET", "/ok")[:2] == (200, b"ok\n")
        assert time.monotonic() - started < 15


@pytest.mark.long
@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\0" * 20_000,
        b"\n\n",
        b"GET " + b"x" * 20_000,
        b"GET /ok HTTP/9\r\n\r\n",
    ],
)
def test_rubbish_ends_its_own_connection_only(server: PageServer, rubbish: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        assert b"ok\n" not in raw(server, rubbish)
    assert ask(server, "GET", "/ok")[:2] == (200, b"ok\n")


def test_a_port_in_use_is_one_line(server: PageServer) -> None:
    with pytest.raises(OutputError, match=f"metrics.listen: 127.0.0.1:{server.port} cannot be bound"):
        PageServer(f"127.0.0.1:{server.port}", {})
