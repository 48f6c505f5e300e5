"""How the configuration writes where pictures come from and where results go; no socket is opened here."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl

from streamd.core.errors import SourceError
from streamd.sources import SCHEMES
from streamd.sources.address import scheme_of
from streamd.sources.source import Kind
from streamd.sources.synthetic.plan import plan_of

ENCRYPTED = ("rtsps", "https")
SOURCES = "rtsp://, rtsps://, http://, https://, /dev/videoN, test:, file:PATH or a path"

STREAM_ID = "[a-z0-9][a-z0-9_-]*"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST = r"(?:\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?)"
_AUTHORITY = re.compile(rf"{_HOST}(?::([0-9]{{1,5}}))?")
_TCP = re.compile(rf"tcp://({_HOST}|\*):([0-9]{{1,5}})")
_LISTEN = re.compile(rf"({_HOST}|\*):([0-9]{{1,5}})")
_SECRET_FIELD = re.compile(
    r"(?i)(^|[^a-z])(user(name)?|usr|login|pass[a-z]*|pwd|auth|token|api_?key|secret)="
)
# sun_path holds 108 bytes with its closing null.
_LONGEST_SOCKET_PATH = 107

CREDENTIALS = (
    "holds credentials; write them under the keys `username` and `password` of this stream "
    "(an address that takes them in its query goes whole into ${cred:NAME})"
)


def _checked_test(url: str) -> str:
    try:
        plan_of(url)
    except SourceError as error:
        raise ValueError(str(error).removeprefix(f"{url}: ")) from None
    return url


def is_stream_id(text: str) -> bool:
    """Whether a stream may be called this; the name becomes a part of its topic."""
    return re.fullmatch(STREAM_ID, text) is not None


def kind_of(url: str) -> Kind:
    """What the address leads to. Raises ValueError when no source has its scheme."""
    if scheme_of(url) == "file" and (found := _SCHEME.match(url)) and found[1].lower() != "file":
        # On a command line `12:30.mp4` is a file's name. Here it is more likely an address with a slip in it.
        if "@" in url:
            raise ValueError(CREDENTIALS)
        if found[1].lower() in SCHEMES:
            raise ValueError(f"must be {found[1].lower()}://HOST[:PORT]/PATH")
        raise ValueError(f"must be {SOURCES}; write file:NAME for a file whose name holds a colon")
    try:
        return SCHEMES[scheme_of(url)].kind
    except KeyError:
        raise ValueError(f"must be {SOURCES}") from None


def checked_url(url: str, *, secret: bool) -> str:
    """The address itself, when it can be one.

    `secret` is for an address that came whole from a credential: its query may then hold a password, a user
    before the host is refused all the same. Raises ValueError; its text never quotes the address.
    """
    kind = kind_of(url)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in url):
        raise ValueError("holds a control character")
    if url != url.strip():
        raise ValueError("starts or ends with a blank")
    if kind not in (Kind.RTSP, Kind.HTTP):
        if kind is Kind.TEST:
            return _checked_test(url)
        if not url or url.endswith(":"):
            raise ValueError(f"names nothing; must be {SOURCES}")
        return url
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    found = _AUTHORITY.fullmatch(authority)
    if "@" in authority or (found is None and "@" in rest):
        raise ValueError(CREDENTIALS)
    if found is None or int(found[1] or 1) not in range(1, 65536):
        raise ValueError(f"must be {url.partition(':')[0].lower()}://HOST[:PORT]/PATH")
    if any(letter.isspace() for letter in url):
        raise ValueError("holds a blank; write it as %20")
    if not secret and _SECRET_FIELD.search(rest[len(authority) :]):
        raise ValueError(CREDENTIALS)
    return url


def secrets_of(url: str) -> set[str]:
    """What must never be shown of an address that came from a credential: itself and its query's values."""
    # Not urlsplit: it raises for brackets, which the path of a file may hold.
    query = url.partition("?")[2].partition("#")[0]
    return {url, *(value for _, value in parse_qsl(query) if value)}


def local_path(url: str, folder: Path) -> Path:
    """The file that a plain path or `file:PATH` or `file:///PATH` names; nothing is percent-decoded.

    Raises ValueError for `file://HOST/...`.
    """
    rest = url[len("file:") :] if scheme_of(url) == "file" and _SCHEME.match(url) else url
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise ValueError("names a host; write file:PATH or file:///PATH")
    if not rest:
        raise ValueError("names no file; write file:PATH")
    return folder / rest


def bind_endpoint(text: str, folder: Path) -> str:
    """A ZeroMQ endpoint to bind; a relative ipc path is taken from `folder`. Raises ValueError."""
    allowed = "must be tcp://HOST:PORT or ipc://PATH"
    if text.startswith("ipc://"):
        path = text.removeprefix("ipc://")
        if not path or path == "*" or path.startswith("@") or "\0" in path:
            raise ValueError(f"{allowed}, where PATH is a file")
        absolute = str(folder / path)
        if len(absolute.encode()) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"its path is longer than a socket's may be ({_LONGEST_SOCKET_PATH} bytes)")
        return f"ipc://{absolute}"
    found = _TCP.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"{allowed}, PORT from 0 (any free one) to 65535")
    return text


def listen_address(text: str) -> str:
    """HOST:PORT for the metrics endpoint. Raises ValueError."""
    found = _LISTEN.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise ValueError("must be HOST:PORT, PORT from 0 (any free one) to 65535, or null")
    return text
