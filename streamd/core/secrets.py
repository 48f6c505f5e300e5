"""What must never be shown: the passwords that this process knows, and user parts of URLs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"
# The user part of a URL: everything between `//` and the last `@` before the path. A password may itself hold
# `/`, `?` or `#`, which a URL forbids but people write: so the part ends at the last `@` of the word.
_USER_PART = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s'\"<>]*@")


class Redactor:
    """Replaces known secrets, and what stands before `@` in URLs, by `***`. Any thread may call it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()  # guards `_pattern` and `_known`
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these from now on too, also in their percent-encoded forms."""
        with self._lock:
            for secret in secrets:
                if secret:
                    self._known |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
                    # As it looks inside a repr or a JSON text.
                    self._known |= {secret.encode("unicode_escape").decode(), repr(secret)[1:-1]}
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """The text with every secret hidden."""
        text = _USER_PART.sub(rf"\g<scheme>{HIDDEN}@", text)
        pattern = self._pattern
        return pattern.sub(HIDDEN, text) if pattern else text
