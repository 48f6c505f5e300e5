"""One stream's part of the path, and the frame that travels along it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from streamd.core.picture import Picture
from streamd.core.timing import Stamps
from streamd.models.contract import Placement
from streamd.models.selection import Rules
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.ledger import Drop, Ledger
from streamd.pipeline.slots import Slot, SlotPool

Clock = Literal["rtcp", "arrival", "file"]


@dataclass(slots=True)
class Lane:
    """What the threads of the path share about one stream: its account, its slots, its rules."""

    stream: str
    slots: SlotPool
    rules: Rules
    max_age_ns: int | None
    """A live result older than this is dropped; None: no budget."""
    live: bool = True
    """Newest wins (True), or every frame with back-pressure; settled when the source is open."""
    urgent: bool = True
    """Whether the frames may take batch slots while frames of other streams wait."""
    keeping: Keeping = field(default_factory=Keeping)
    """Whether somebody wants the source pictures with the results."""
    epoch: int = 0
    removed: bool = False
    """Whether the stream was taken out: what is still on its way comes to nothing."""
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(slots=True)
class Frame:
    """A decoded picture on its way to a result. One owner at a time; ends by `Ledger.published` or `drop`."""

    lane: Lane
    number: int
    pts: float | None
    captured_us: int | None
    received_us: int
    clock: Clock
    width: int
    height: int
    sar: Fraction | None
    slot: Slot
    placement: Placement
    stamps: Stamps
    picture: Picture | None

    def drop(self, reason: Drop) -> None:
        """End this frame without a result: counted, its slot given back."""
        self.slot.release()
        self.lane.ledger.dropped(reason)

    def stale(self, now_ns: int) -> bool:
        """Whether the frame is over its stream's age budget at `now_ns` (monotonic)."""
        budget = self.lane.max_age_ns
        return self.lane.live and budget is not None and now_ns - self.stamps.received > budget
