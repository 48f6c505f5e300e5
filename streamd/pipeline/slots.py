"""Where decoders write model inputs: a bounded pool of preset arrays per stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamd.models.contract import Array, InputContract, InputShape, Placement


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model wants written: the contract, the shape, and which of the models of this process it is."""

    contract: InputContract
    shape: InputShape
    model: int = 0


class Slot:
    """One picture in the model's input form. Owned by one thread at a time, given back by `release`."""

    __slots__ = ("_give_back", "model", "pixels", "placement")

    def __init__(self, pixels: Array, model: int, give_back: Callable[[Slot], None]) -> None:
        self.pixels = pixels
        self.model = model
        """The number of the model that the slot was made for: no other can read it."""
        self.placement: Placement | None = None
        """How the last picture was placed: while it stays the same, the border needs no new fill."""
        self._give_back = give_back

    def release(self) -> None:
        """Give the slot back to its pool; the caller must not touch it afterwards."""
        self._give_back(self)


class SlotPool:
    """At most `limit` slots for one model, made when first needed and reused for ever."""

    def __init__(self, target: ModelInput, limit: int) -> None:
        self.target = target
        self._limit = limit
        self._made = 0
        self._free: list[Slot] = []
        self._condition = threading.Condition()  # guards the three above; notified when a slot is free

    def acquire(self, stop: threading.Event) -> Slot | None:
        """A slot to write into; waits while all are in use. None when `stop` was set meanwhile."""
        with self._condition:
            while not self._free:
                if self._made < self._limit:
                    self._made += 1
                    break
                if stop.is_set():
                    return None
                # `stop` can not notify this condition, so it is looked at now and then.
                self._condition.wait(0.1)
            else:
                return self._free.pop()
        shape = self.target.shape
        return Slot(np.zeros(shape.picture, shape.dtype), self.target.model, self._put_back)

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
        with self._condition:
            self._free.append(slot)
            self._condition.notify()
