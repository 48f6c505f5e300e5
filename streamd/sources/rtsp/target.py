"""What an RTSP address says: whom to ask, for what, and as whom."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown
from streamd.sources.source import SourceRequest

_ADDRESS = re.compile(
    r"(rtsps?)://(?:([^/?#]*)@)?(\[[^\]/?#@]*\]|[^:/?#@\[\]]*)(?::(\d*))?(?=[/?#]|$)(.*)", re.I | re.S
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORTS = {"rtsp": 554, "rtsps": 322}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens and what is asked of it. `url` is the request's address: no credentials."""

    secure: bool
    host: str
    port: int
    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def target_of(request: SourceRequest) -> Target:
    """Raises SourceError for what is no RTSP address, and for credentials that no server can be told.

    User and password of the request go before those in its address, where percent signs are decoded (RFC 3986).
    """
    name = shown(request.url)
    match = _ADDRESS.fullmatch(request.url)
    if match is None or not match[3].strip("[]"):
        hint = ""
        if "@" in request.url:
            hint = "; a user or password with / ? # or : in it is set with username and password instead"
        raise SourceError(Reason.ERROR, f"{name}: not an address like rtsp://host:port/path{hint}")
    scheme, login, host, port, rest = match[1].lower(), match[2], match[3], match[4], match[5]
    number = int(port) if port else _PORTS[scheme]
    if not 0 < number < 65536:
        raise SourceError(Reason.ERROR, f"{name}: {port} is no port; ports go from 1 to 65535")
    username, password = request.username, request.password
    if username is None and login is not None:
        if _BAD_ESCAPE.search(login):
            raise SourceError(
                Reason.AUTH,
                f"{name}: a % in the user or password of an address is written %25; or set username and password",
            )
        user, colon, word = login.partition(":")
        username, password = _decoded(user), _decoded(word) if colon else None
    for what, value in (("user", username), ("password", password)):
        if value is not None and _CONTROL.search(value):
            raise SourceError(
                Reason.AUTH,
                f"{name}: the {what} holds a line end or another control character; no server takes one",
            )
    path = _CONTROL.sub("", rest.partition("#")[0]).replace(" ", "%20")
    if not path.startswith("/"):
        path = "/" + path
    authority = host if not port else f"{host}:{port}"
    return Target(
        scheme == "rtsps", host.strip("[]"), number, f"{scheme}://{authority}{path}", username, password
    )


def _decoded(text: str) -> str:
    """Escaped bytes that are no UTF-8 stay what they are: an older camera's password may be Latin-1."""
    return unquote(text, errors="surrogateescape")


def joined(base: str, control: str) -> str:
    """The address of a track: `control` of the description, against the description's own address.

    Cameras that write a relative control mean it below the base, although without a closing slash RFC 2326
    (through RFC 1808) would put it beside: everybody appends it.
    """
    control = control.strip()
    if not control or control == "*":
        return base
    if re.match(r"rtsps?://", control, re.I):
        return control
    if control.startswith("/"):
        # Not urljoin, which raises on a host that is none.
        server = re.match(r"rtsps?://[^/?#]*", base, re.I)
        return (server[0] if server else base) + control
    return base + control if base.endswith("/") else f"{base}/{control}"
