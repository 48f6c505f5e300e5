"""Lanes, slots and frames for tests of the path, without a source or a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamd.core.timing import Stamps, now_ns
from streamd.models.contract import InputShape, Placement
from streamd.models.presets import PRESETS
from streamd.models.selection import rules_for
from streamd.pipeline.lane import Frame, Lane
from streamd.pipeline.slots import ModelInput, SlotPool

TINY = ModelInput(PRESETS["yolox"], InputShape("images", 8, 8, True, np.dtype(np.uint8), None))
LABELS = ("thing",)


def lane_of(stream: str, *, slots: int = 64, live: bool = True, max_age_ns: int | None = None) -> Lane:
    """A lane with a pool of tiny slots."""
    return Lane(stream, SlotPool(TINY, slots), rules_for(LABELS), max_age_ns, live=live)


def frame_of(lane: Lane, *, received_ns: int | None = None) -> Frame:
    """The lane's next frame, as if it was decoded just now, its number written into the slot's first pixel."""
    import threading

    number = lane.ledger.decoded()
    slot = lane.slots.acquire(threading.Event())
    assert slot is not None
    slot.pixels[0, 0, 0] = number % 256
    received = now_ns() if received_ns is None else received_ns
    return Frame(
        lane=lane,
        number=number,
        pts=number / 25,
        captured_us=None,
        received_us=1,
        clock="arrival",
        width=8,
        height=8,
        sar=None,
        slot=slot,
        placement=Placement(1, 1, 0, 0),
        stamps=Stamps(received=received, decoded=received, prepared=received),
        picture=None,
    )


def numbers(frames: Sequence[Frame]) -> list[tuple[str, int]]:
    """Stream and number of each frame."""
    return [(frame.lane.stream, frame.number) for frame in frames]
