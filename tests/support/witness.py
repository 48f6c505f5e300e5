"""Whether this machine stood still: a thread that sleeps, and notes how late it woke."""

from __future__ import annotations

import threading
import time

STOOD_STILL_S = 0.5
"""A stream is called stalled after two seconds: half a second of nothing may be part of that."""
_TICK_S = 0.02


class Witness(threading.Thread):
    """Runs from `start` to `close`; any thread may read."""

    def __init__(self) -> None:
        super().__init__(name="witness", daemon=True)
        self.longest_s = 0.0
        """The longest standstill."""
        self.count = 0
        """Standstills of more than half a second."""
        self._last_s: float | None = None
        self._over = threading.Event()

    def run(self) -> None:
        """Until `close`."""
        before_s = time.monotonic()
        while not self._over.wait(_TICK_S):
            now_s = time.monotonic()
            late_s = now_s - before_s - _TICK_S
            before_s = now_s
            self.longest_s = max(self.longest_s, late_s)
            if late_s > STOOD_STILL_S:
                self.count += 1
                self._last_s = now_s

    def within(self, seconds: float) -> bool:
        """Whether the machine stood still at any time in the last so many seconds."""
        last_s = self._last_s
        return last_s is not None and time.monotonic() - last_s <= seconds

    def close(self) -> None:
        """End it."""
        self._over.set()
        self.join()
