"""Basic (RFC 7617) and digest (RFC 7616, RFC 2069) authentication for one connection."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Both begin where no word is under way: so a server's endless words and blanks are looked at once, not from
# each of their letters.
_PARAMETER = re.compile(r'(?<![\w*-])([A-Za-z][\w*-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*,?\s*')
_SCHEME = re.compile(r"(?<![\w=])(Basic|Digest)\b\s*", re.I)
_MOST_TEXT = 8 * 1024
_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
}
_STRENGTH = ("SHA-512-256", "SHA-256", "MD5", "BASIC")


class LoginError(Exception):
    """These credentials cannot be told in any way the server offers; the message says why."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way the server offers. `algorithm`: upper case, without "-SESS"; "BASIC" for basic."""

    algorithm: str
    parameters: dict[str, str]


class Authenticator:
    """Answers a server's challenges with one user's credentials. Used by one thread."""

    def __init__(self, username: str | None, password: str | None) -> None:
        self._username = username
        self._password = password or ""
        self._challenge: Challenge | None = None
        self._count = 0

    def challenged(self, values: Sequence[str]) -> bool:
        """Take a 401's WWW-Authenticate values; returns whether trying again makes sense.

        It does not when there are no credentials, and when these were refused: unless the server only calls its
        nonce stale, which is no refusal. Raises LoginError.
        """
        offers = [challenge for value in values for challenge in _challenges(value)]
        known = [offer for offer in offers if offer.algorithm in _STRENGTH]
        if self._username is None:
            return False
        if not known:
            raise LoginError("it asks for a kind of login that is not known; streamd knows basic and digest")
        best = min(known, key=lambda offer: _STRENGTH.index(offer.algorithm))
        stale = best.parameters.get("stale", "").lower() == "true"
        refused = self._challenge is not None and not stale
        if best.algorithm == "BASIC" and ":" in self._username:
            raise LoginError("it asks for basic authentication, which knows no user with a colon in it")
        self._challenge, self._count = best, 0
        return not refused

    def header(self, method: str, url: str) -> str | None:
        """The Authorization field for a request; None as long as the server did not ask for one."""
        challenge = self._challenge
        if challenge is None or self._username is None:
            return None
        if challenge.algorithm == "BASIC":
            pair = f"{self._username}:{self._password}".encode("utf-8", "surrogateescape")
            return "Basic " + base64.b64encode(pair).decode()
        return self._digest(challenge, self._username, method, url)

    def _digest(self, challenge: Challenge, username: str, method: str, url: str) -> str:
        given = challenge.parameters
        digest = _HASHES[challenge.algorithm]
        realm, nonce = given.get("realm", ""), given.get("nonce", "")
        session = given.get("algorithm", "").upper().endswith("-SESS")
        offered = [word.strip().lower() for word in given["qop"].split(",")] if "qop" in given else []
        qop = "auth" if "auth" in offered else None
        client_nonce = secrets.token_hex(8)
        self._count += 1
        count = f"{self._count:08x}"

        def hashed(text: str) -> str:
            return digest(text.encode("utf-8", "surrogateescape"))

        secret = hashed(f"{username}:{realm}:{self._password}")
        if session:
            secret = hashed(f"{secret}:{nonce}:{client_nonce}")
        asked = hashed(f"{method}:{url}")
        middle = f"{nonce}:{count}:{client_nonce}:{qop}" if qop else nonce
        parts = {
            "username": _quoted(username),
            "realm": _quoted(realm),
            "nonce": _quoted(nonce),
            "uri": _quoted(url),
            "response": _quoted(hashed(f"{secret}:{middle}:{asked}")),
        }
        if "algorithm" in given:
            parts["algorithm"] = given["algorithm"]
        if "opaque" in given:
            parts["opaque"] = _quoted(given["opaque"])
        if qop:
            parts |= {"qop": qop, "nc": count}
        if qop or session:
            parts["cnonce"] = _quoted(client_nonce)
        return "Digest " + ", ".join(f"{name}={value}" for name, value in parts.items())


def _challenges(value: str) -> list[Challenge]:
    """The challenges of one field: several may stand in it, one after the other."""
    found = []
    value = value[:_MOST_TEXT]
    starts = [match for match in _SCHEME.finditer(value) if not _inside_quotes(value, match.start(1))]
    for index, match in enumerate(starts):
        end = starts[index + 1].start() if index + 1 < len(starts) else len(value)
        parameters = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) if plain == "" else plain
            for name, quoted, plain in _PARAMETER.findall(value[match.end() : end])
        }
        algorithm = "BASIC"
        if match[1].lower() == "digest":
            algorithm = parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")
        found.append(Challenge(algorithm, parameters))
    return found


def _inside_quotes(text: str, position: int) -> bool:
    return len(re.findall(r'(?<!\\)"', text[:position])) % 2 == 1


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
