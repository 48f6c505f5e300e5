"""The server's side of Basic (RFC 7617) and Digest (RFC 2617, 7616) authentication, really verified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading

from tests.support.camera_options import Login

_PARAMETER = re.compile(r'([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]*)')
_HASHES = {"digest": hashlib.md5, "digest-old": hashlib.md5, "digest-sha256": hashlib.sha256}


class Gate:
    """Checks the requests to one camera. `denied` has the reason of every refusal."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._nonces: dict[str, tuple[int, int]] = {}
        self.denied: list[str] = []

    def challenges(self, method: str, url: str, authorization: str | None) -> list[str] | None:
        """The values of WWW-Authenticate to refuse a request with; None: it may pass."""
        if method in self._login.free:
            return None
        with self._lock:
            reason = self._flaw(method, url, authorization)
            if reason is None:
                return None
            self.denied.append(reason)
            offers = [self._offer(scheme, reason == "stale nonce") for scheme in self._login.schemes]
        return [", ".join(offers)] if self._login.one_line else offers

    def _offer(self, scheme: str, stale: bool) -> str:
        realm = "realm=" + _quoted(self._login.realm)
        if scheme == "basic":
            return f"Basic {realm}"
        nonce = secrets.token_hex(16)
        self._nonces[nonce] = (0, 0)
        offer = f'Digest {realm}, nonce="{nonce}"'
        if scheme != "digest-old":
            offer += f', qop="auth", opaque="{secrets.token_hex(4)}"'
            offer += f", algorithm={'MD5' if scheme == 'digest' else 'SHA-256'}"
        return offer + (", stale=true" if stale else "")

    def _flaw(self, method: str, url: str, authorization: str | None) -> str | None:
        if authorization is None:
            return "no credentials"
        if self._login.endless:
            return "endless"
        scheme, _, rest = authorization.strip().partition(" ")
        if scheme.lower() == "basic":
            return self._basic(rest) if "basic" in self._login.schemes else "scheme"
        if scheme.lower() != "digest":
            return "scheme"
        return self._digest(method, url, dict(_PARAMETER.findall(rest)))

    def _basic(self, rest: str) -> str | None:
        expected = f"{self._login.user}:{self._login.password}".encode()
        try:
            given = base64.b64decode(rest.strip(), validate=True)
        except ValueError:
            return "base64"
        return None if hmac.compare_digest(given, expected) else "password"

    def _digest(self, method: str, url: str, given: dict[str, str]) -> str | None:
        given = {name.lower(): value for name, value in given.items()}
        bare = {name: _bare(value) for name, value in given.items()}
        scheme = self._scheme(bare)
        if scheme is None:
            return "scheme"
        # As it stands between its quotes or with the escapes undone: clients differ in what they echo.
        if self._login.user not in (bare.get("username"), _unescaped(bare.get("username", ""))):
            return "user"
        if self._login.realm not in (bare.get("realm"), _unescaped(bare.get("realm", ""))):
            return "realm"
        if bare.get("uri") != url:
            return f"uri {bare.get('uri')!r} for {url!r}"
        nonce = bare.get("nonce", "")
        if nonce not in self._nonces:
            return "nonce"
        if not self._right(scheme, method, url, bare):
            return "password"
        uses, last = self._nonces[nonce]
        if self._login.stale_after is not None and uses >= self._login.stale_after:
            return "stale nonce"
        if "qop" in bare:
            if not re.fullmatch(r"[0-9a-fA-F]{8}", bare.get("nc", "")) or int(bare["nc"], 16) <= last:
                return f"nc {bare.get('nc')!r} after {last}"
            last = int(bare["nc"], 16)
        self._nonces[nonce] = (uses + 1, last)
        return None

    def _scheme(self, bare: dict[str, str]) -> str | None:
        if bare.get("algorithm", "MD5").upper() == "SHA-256":
            scheme = "digest-sha256"
        elif "qop" in bare:
            scheme = "digest"
        else:
            # RFC 2617 lets a client of the older RFC leave qop out.
            scheme = "digest-old" if "digest-old" in self._login.schemes else "digest"
        return scheme if scheme in self._login.schemes else None

    def _right(self, scheme: str, method: str, url: str, bare: dict[str, str]) -> bool:
        def digest(text: str) -> str:
            return _HASHES[scheme](text.encode()).hexdigest()

        if "qop" in bare:
            if bare["qop"] != "auth" or not bare.get("cnonce"):
                return False
            middle = f"{bare['nonce']}:{bare.get('nc', '')}:{bare['cnonce']}:auth"
        else:
            middle = bare["nonce"]
        second = digest(f"{method}:{url}")
        # RFC 7616 hashes the value "without the quotes"; whether escapes stay is read both ways.
        for user in {self._login.user, bare["username"]}:
            for realm in {self._login.realm, bare["realm"]}:
                first = digest(f"{user}:{realm}:{self._login.password}")
                if hmac.compare_digest(
                    digest(f"{first}:{middle}:{second}"), bare.get("response", "").lower()
                ):
                    return True
        return False


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bare(value: str) -> str:
    return value[1:-1] if value[:1] == '"' else value


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
