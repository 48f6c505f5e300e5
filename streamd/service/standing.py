"""Where a stream stands, and what of it never came to a decoded frame: for status, metrics and health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamd.core.errors import Reason
from streamd.sources import Source

State = Literal["connecting", "live", "stalled", "lost", "ended", "removed"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream stands: one reading for status, metrics and health."""

    state: State
    reason: Reason | None
    since_ns: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class Reception:
    """What never came to a decoded frame: packets that the network lost, and pictures left out, by reason."""

    lost_packets: int = 0
    undecoded: Mapping[str, int] = field(default_factory=dict)

    def with_(self, source: Source) -> Reception:
        """These and those of one more source."""
        more = source.undecoded
        undecoded = {
            reason: self.undecoded.get(reason, 0) + more.get(reason, 0)
            for reason in self.undecoded.keys() | more.keys()
        }
        return Reception(self.lost_packets + source.lost_packets, undecoded)
