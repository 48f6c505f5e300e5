"""Taking what an endpoint sends until told to stop, and saying so while nothing comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from streamd.cli import complain
from streamd.core.errors import StreamdError

T = TypeVar("T")
TURN_S = 0.2
"""How soon a stop is seen."""
_SILENT_S = 2.0


@dataclass(frozen=True, slots=True)
class Listening:
    """How long to wait for an endpoint, and what to say meanwhile."""

    endpoint: str
    stop: Event
    timeout_s: float | None
    what: str
    """What is waited for: "message", "picture"."""
    ask: str
    """What whoever waits in vain should look at."""

    def each(self, take: Callable[[float], T], hint: Callable[[], str]) -> Iterator[T | None]:
        """What `take` gives, until `stop` is set; None in each turn of 0.2 s that brings nothing.

        Waits for a daemon that is not there, which is told of once, on stderr, after 2 s. Raises StreamdError after
        `timeout_s` without anything.
        """
        import time

        last, told = time.monotonic(), False
        while not self.stop.is_set():
            try:
                taken = take(TURN_S)
            except TimeoutError:
                silent_s = time.monotonic() - last
                if self.timeout_s is not None and silent_s >= self.timeout_s:
                    why = hint() or f"; {self.ask}"
                    raise StreamdError(
                        f"{self.endpoint}: no {self.what} within {self.timeout_s:g} s{why}"
                    ) from None
                if silent_s >= _SILENT_S and not told:
                    told = True
                    complain(f"{self.endpoint}: no {self.what} so far, waiting{hint() or f'; {self.ask}'}")
                yield None
            else:
                last, told = time.monotonic(), False
                yield taken
