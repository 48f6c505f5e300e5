"""How long to wait before the next attempt."""

from __future__ import annotations

import random

from streamd.core.errors import Reason

_FIRST_S = 1.0
_LONGEST_S = 30.0
# A camera locks an account after some wrong passwords: knock rarely.
_AUTH_FIRST_S = 60.0
_AUTH_LONGEST_S = 600.0
_JITTER = 0.2
_SERVED_WELL_S = 60.0


class Backoff:
    """Doubles the wait with each failure; begins anew only after 60 s of good service, not after a connect."""

    def __init__(self, randomness: random.Random | None = None) -> None:
        self._random = randomness or random.Random()  # nosec B311  # spreads attempts
        self.attempt = 0
        """Failed attempts in a row."""

    def next_s(self, reason: Reason, served_s: float) -> float:
        """Seconds to wait after an attempt that was live for `served_s` and ended for `reason`."""
        if served_s >= _SERVED_WELL_S:
            self.attempt = 0
        first, longest = (_AUTH_FIRST_S, _AUTH_LONGEST_S) if reason is Reason.AUTH else (_FIRST_S, _LONGEST_S)
        wait_s = min(longest, first * 2.0 ** min(self.attempt, 16))
        self.attempt += 1
        return wait_s * self._random.uniform(1 - _JITTER, 1 + _JITTER)
