"""Addresses of sources: which scheme, how to show one without secrets, how to join credentials into one."""

from __future__ import annotations

import re
from urllib.parse import quote

from streamd.core.text import printable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
# A raw / ? or # in a password ends the host before its @: what follows a colon that begins no port, and what
# looks like a port but has "@host/" after it, may be the rest of a password.
_ASTRAY = (
    re.compile(r"(?<=://)((?>\[[^\]/?#@]*\]|[^:/?#@\[\]]*)(?::\d*(?=[/?#]))?+[^:@]*):.*@", re.S),
    re.compile(r"(?<=://)([^:/?#@\[\]]*):\d+[/?#].*@(?=[^@]*/)", re.S),
)
_SECRET_KEYS = re.compile(
    r"([?&;][^=&;?]*(?:pass|pwd|token|secret|auth|key|user|sig)[^=&;]*=)[^&;#\s]*", re.I
)
_VIDEO_DEVICE = re.compile(r"/dev/video\d+")
# Everything printable that libav's URL splitter leaves alone. It splits at the *last* @ before the first
# of / ? #, and at the first colon of the credentials; it decodes percent signs afterwards.
_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) not in "%/?#@")


def scheme_of(url: str) -> str:
    """The scheme of an address, in lower case; "file" for a path and "v4l2" for a video device's path.

    Without "//" only `file:`, `v4l2:` and `test:` count as schemes: `12:30 gate.mp4` is a file's name.
    """
    if _VIDEO_DEVICE.fullmatch(url):
        return "v4l2"
    match = _SCHEME.match(url)
    if match is None:
        return "file"
    scheme = match[1].lower()
    return scheme if match[2] or scheme in ("file", "v4l2", "test") else "file"


def path_of(url: str) -> str:
    """The path that a `file:` or `v4l2:` address names; a plain path is returned as it is."""
    if _VIDEO_DEVICE.fullmatch(url) or not url.lower().startswith(("file:", "v4l2:")):
        return url
    path = url.split(":", 1)[1]
    return re.sub(r"^//(localhost)?(?=/)", "", path)


def shown(url: str) -> str:
    """The address for people and logs: one line, no user, no password, no values of secret-looking keys."""
    text = path_of(url)
    if scheme_of(url) not in ("file", "v4l2"):
        text = _USERINFO.sub("", url)
        for astray in _ASTRAY:
            text = astray.sub(r"\1:***@", text)
        text = _SECRET_KEYS.sub(r"\1***", text)
    return printable(text)


def encodable(url: str) -> str:
    """The address for results, as given; what a file's name holds that is no UTF-8 is marked with �."""
    return url.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def with_credentials(url: str, username: str | None, password: str | None) -> str:
    """The address with user and password joined in, for libav only: never show it.

    Only what must be is encoded: libav's digest authentication signs the text as it was given.
    """
    if username is None:
        return url
    user = quote(username, safe=_PLAIN.replace(":", ""))
    # The user's colon must be encoded, the password's must not.
    word = "" if password is None else ":" + quote(password, safe=_PLAIN)
    return re.sub(r"://([^/?#]*@)?", lambda _: f"://{user}{word}@", url, count=1)


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """`text` in one line, without credentials of addresses in it and without any of `secrets`."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return " ".join(_SECRET_KEYS.sub(r"\1***", _USERINFO.sub("***@", text)).split())
