"""One file over HTTP(S), of a size that is known beforehand: resumed where it broke off, never longer than that.

Nothing that a server says is believed but the bytes, and whoever calls compares those with a checksum. Proxies come
from the environment, and trusted certificates from the system, as for Python's own library.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from io import SEEK_END, FileIO
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from streamd import __version__
from streamd.core.text import printable

TIMEOUT_S = 15.0
"""How long a connection may take, and then stay silent."""
_TRIES = 5
_CHUNK = 1 << 16
_NOTHING_THERE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)")


class TransferError(Exception):
    """The file could not be had; the message says why, without an address."""


class _BrokenOffError(TransferError):
    """The connection ended early. What came is in the file."""


class _NoSuchPartError(TransferError):
    """The server does not go on from where the file ends."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on while a file is fetched; everything is called in the thread that fetches."""

    tell: Callable[[str], None] = lambda line: None
    """Given a line for people, about what takes long or was thrown away."""
    progress: Callable[[int], None] = lambda held: None
    """Given the bytes that are there, often."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by any thread: no more is fetched."""


def download(address: str, file: FileIO, size: int, watch: Watch) -> None:
    """Append to `file` until it has `size` bytes; what it holds is taken for the beginning.

    A connection that breaks off is followed by another one as long as each brings something, five in all. A server
    that knows no ranges sends all of it again. Blocks; ends within `TIMEOUT_S` of a silence. Raises TransferError,
    and OSError when `file` cannot be written.
    """
    for tries_left in reversed(range(_TRIES)):
        before = file.seek(0, SEEK_END)
        if before > size:
            before = file.truncate(0)
        if before == size:
            return
        try:
            _once(address, file, before, size, watch)
        except _NoSuchPartError:
            file.truncate(0)
            if not tries_left:
                raise
        except _BrokenOffError:
            if not tries_left or file.seek(0, SEEK_END) == before:
                raise
        else:
            return


def _once(address: str, file: FileIO, held: int, size: int, watch: Watch) -> None:
    with _opened(address, held) as answer:
        held = _agreed(answer, held, size)
        file.truncate(held)
        file.seek(held)
        while held < size:
            if watch.stop.is_set():
                raise TransferError("stopped; what came is kept")
            try:
                chunk = answer.read1(min(_CHUNK, size - held))
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenOffError(f"after {held} of {size} bytes: {_why(error)}") from error
            if not chunk:
                raise _BrokenOffError(f"the connection ended after {held} of {size} bytes")
            _write(file, chunk)
            held += len(chunk)
            watch.progress(held)


def _opened(address: str, held: int) -> http.client.HTTPResponse:
    """The answer, whose body has not been read. Raises TransferError."""
    headers = {"User-Agent": f"streamd/{__version__}", **({"Range": f"bytes={held}-"} if held else {})}
    opener = urllib.request.OpenerDirector()
    # No handlers for file:, ftp: and data:, which build_opener would bring.
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    try:
        answer = opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        kind = _NoSuchPartError if held and error.code == _NOTHING_THERE else TransferError
        raise kind(f"it answered {_status(error.code)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransferError(_why(error)) from error
    assert isinstance(answer, http.client.HTTPResponse)
    return answer


def _agreed(answer: http.client.HTTPResponse, held: int, size: int) -> int:
    """Where the body begins that was sent. Raises TransferError when it cannot be what was asked for."""
    if answer.headers.get_content_type() == "text/html":
        raise TransferError("it sent a web page instead of the file; does a proxy want a log-in?")
    if answer.status == HTTPStatus.OK:
        held = 0
    elif answer.status == HTTPStatus.PARTIAL_CONTENT and held:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != held or found[3] not in ("*", str(size)):
            raise _NoSuchPartError("it sent another part than was asked for, or a part of another file")
    else:
        raise TransferError(f"it answered {_status(answer.status)}")
    length = answer.headers.get("Content-Length")
    if length is not None and length.strip() != str(size - held):
        raise TransferError(
            f"it has another file: {printable(length.strip())[:20]} bytes where {size - held} were expected"
        )
    return held


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) or 0 :]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """From https to https only; from an http mirror to either."""

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> Any:
        refusal = _refusal(req.full_url, str(headers.get("Location", "")))
        if refusal:
            fp.close()
            raise TransferError(refusal)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _refusal(address: str, location: str) -> str | None:
    """Why a redirect is not followed; None for one that is."""
    try:
        target = urlsplit(urljoin(address, location))
    except ValueError:
        return "it redirects to what is no address"
    if target.scheme in ("https", urlsplit(address).scheme) and target.username is None:
        return None
    # The query may carry a signature: only where it leads is told.
    where = printable(f"{target.scheme}://{target.hostname or ''}")[:100]
    return f"it redirects to {where}, and only https without a user is followed"


def _status(code: int) -> str:
    """In our own words, not the server's."""
    with contextlib.suppress(ValueError):
        return f"{code} {HTTPStatus(code).phrase}"
    return str(code)


def _why(error: Exception) -> str:
    """What went wrong, in one line."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer for {TIMEOUT_S:g} s"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, http.client.HTTPException | ValueError) and not isinstance(reason, OSError):
        return "what it answered is not HTTP"
    text = (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__
    return printable(text)[:200]
