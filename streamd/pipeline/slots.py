"""Where decoders write model inputs: a bounded pool of preset arrays per stream."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from streamd.models.contract import Array, InputContract, InputShape, Placement
from streamd.models.device import Device
from streamd.models.memory import DeviceArray

_FEW = 8  # enough to hide the jitter of a decoder
_SMALL_BYTES = 4 << 20  # of inputs so small that more than a few may wait


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model wants written: the contract, the shape, and which of the models of this process it is."""

    contract: InputContract
    shape: InputShape
    model: int = 0
    device: Device | None = None
    """The GPU from whose memory the model takes pictures as well; None: from host memory alone."""


def unhurried(shape: InputShape, most: int = 64) -> int:
    """How many pictures of this shape may wait where none grows old: more of them when they are small.

    Threads that take turns every few frames hand the interpreter's lock, and each other's caches, over as often.
    """
    many = _SMALL_BYTES // (math.prod(shape.picture) * shape.dtype.itemsize)
    return min(max(_FEW, many), most)


class Slot:
    """One picture in the model's input form. Owned by one thread at a time, given back by `release`."""

    __slots__ = ("_give_back", "model", "on_device", "pixels", "placement", "there")

    def __init__(self, pixels: Array, model: int, give_back: Callable[[Slot], None]) -> None:
        self.pixels = pixels
        self.model = model
        """The number of the model that the slot was made for: no other can read it."""
        self.placement: Placement | None = None
        """How the last picture in `pixels` was placed: while it stays the same, the border needs no new fill."""
        self.there: DeviceArray | None = None
        """Its memory on the GPU, made when first needed by whoever writes pictures there."""
        self.on_device = False
        """Whether the picture lies `there`, and not in `pixels`."""
        self._give_back = give_back

    @property
    def picture(self) -> Array | DeviceArray:
        """The picture where it lies."""
        return self.there if self.on_device and self.there is not None else self.pixels

    def release(self) -> None:
        """Give the slot back to its pool; the caller must not touch it afterwards."""
        self._give_back(self)


class SlotPool:
    """At most `limit` slots for one model, made when first needed and reused for ever."""

    def __init__(self, target: ModelInput, limit: int) -> None:
        self.target = target
        self._limit = limit
        self._made = 0
        self._free: deque[Slot] = (
            deque()
        )  # needs no lock; the last one back is the first out, still in the cache
        self._condition = (
            threading.Condition()
        )  # guards `_limit`, `_made`, `_waiting`; notified: a slot is free
        self._waiting = 0

    def acquire(self, stop: threading.Event) -> Slot | None:
        """A slot to write into; waits while all are in use. None when `stop` was set meanwhile."""
        try:
            return self._free.pop()
        except IndexError:
            return self._new_or_next(stop)

    def _new_or_next(self, stop: threading.Event) -> Slot | None:
        with self._condition:
            self._waiting += 1  # before looking: whoever gives a slot back after that look notifies
            try:
                while True:
                    with suppress(IndexError):
                        return self._free.pop()
                    if self._made < self._limit:
                        self._made += 1
                        shape = self.target.shape
                        return Slot(np.zeros(shape.picture, shape.dtype), self.target.model, self._put_back)
                    if stop.is_set():
                        return None
                    # `stop` can not notify this condition, so it is looked at now and then.
                    self._condition.wait(0.1)
            finally:
                self._waiting -= 1

    def allow(self, limit: int) -> None:
        """Make up to so many slots from now on; a pool never shrinks."""
        with self._condition:
            self._limit = max(self._limit, limit)
            self._condition.notify_all()

    def in_use(self) -> int:
        """How many slots are out."""
        with self._condition:
            return self._made - len(self._free)

    def _put_back(self, slot: Slot) -> None:
        self._free.append(slot)
        if self._waiting:
            with self._condition:
                self._condition.notify()
