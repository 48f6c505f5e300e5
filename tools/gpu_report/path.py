"""Frames through streamd's own path, from the slot to the outbox, without a decoder: what the path itself costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from streamd.core.timing import Stamps, now_ns
from streamd.models.contract import Placement
from streamd.models.detector import Detector
from streamd.models.selection import rules_for
from streamd.pipeline.lane import Frame, Lane
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool
from streamd.pipeline.worker import Worker

_OUTBOX = 256


@dataclass(frozen=True, slots=True)
class Passage:
    """What a run through the path came to."""

    frames: int
    wall_s: float
    cpu_s: float
    """Of the whole process."""


def run(detector: Detector, streams: int, frames: int, encode: Callable[[Result], object]) -> Passage:
    """`frames` frames of each stream through rings, worker and outbox, no frame lost, batches always full.

    The pictures lie in the slots already: writing them is the decoder's work, measured elsewhere.
    """
    target = ModelInput(detector.contract, detector.input)
    rules = rules_for(detector.labels)
    rings: Rings = Rings()
    outbox: Outbox[None] = Outbox(_OUTBOX)
    limit = detector.limit
    slots = 2 * limit + detector.at_once + 2
    lanes = [Lane(str(n), SlotPool(target, slots), rules, None, live=False) for n in range(streams)]
    stop = threading.Event()
    for lane in lanes:
        _fill(lane.slots, slots, stop)
    worker = Worker(detector, rings, outbox, fill=True)

    def feed(lane: Lane) -> None:
        ring = rings.add(lane, 2 * limit)
        for _ in range(frames):
            frame = _frame(lane, stop)
            if frame is None:
                return
            ring.put_wait_for_room(frame)

    def serve() -> None:
        last = True
        try:
            last = worker.run()
        finally:
            if last:
                outbox.close()

    feeders = [threading.Thread(target=feed, args=(lane,)) for lane in lanes]
    serving = [threading.Thread(target=serve) for _ in range(worker.threads)]
    cpu, wall = time.process_time(), time.perf_counter()
    for thread in (*feeders, *serving):
        thread.start()
    done = 0
    closing = threading.Thread(target=_close_after, args=(feeders, rings))
    closing.start()
    while (items := outbox.take(0.2)) is not None:
        for item in items:
            if isinstance(item, Result):
                item.stamps.encoded = now_ns()
                encode(item)
                done += 1
    for thread in (*serving, closing):
        thread.join()
    return Passage(done, time.perf_counter() - wall, time.process_time() - cpu)


def encoder() -> tuple[Callable[[Result], object], str]:
    """What makes a message of a result, and a word on it; without msgspec nothing is made."""
    try:
        import msgspec

        from streamd.bus.messages import objects_of
    except ImportError as error:
        return lambda result: None, f"without the message ({error.name} is not installed)"
    encode = msgspec.json.Encoder().encode
    return lambda result: encode(objects_of(result.detections, result.labels)), "with its objects as JSON"


def _fill(pool: SlotPool, count: int, stop: threading.Event) -> None:
    """Make all slots of the pool, with pictures in them, before the clock runs."""
    rng = np.random.default_rng(1)
    made = [slot for _ in range(count) if (slot := pool.acquire(stop)) is not None]
    for slot in made:
        slot.pixels[...] = rng.integers(0, 256, slot.pixels.shape, np.uint8)
        slot.placement = Placement(1.0, 1.0, 0.0, 0.0, pool.target.shape.width, pool.target.shape.height)
        slot.release()


def _frame(lane: Lane, stop: threading.Event) -> Frame | None:
    number = lane.ledger.decoded()
    slot = lane.slots.acquire(stop)
    if slot is None:
        return None
    assert slot.placement is not None
    now = now_ns()
    return Frame(
        lane=lane,
        number=number,
        pts=number / 30,
        captured_us=None,
        received_us=1,
        clock="file",
        width=lane.slots.target.shape.width,
        height=lane.slots.target.shape.height,
        sar=Fraction(1),
        slot=slot,
        placement=slot.placement,
        stamps=Stamps(received=now, decoded=now, prepared=now),
        picture=None,
    )


def _close_after(feeders: list[threading.Thread], rings: Rings) -> None:
    for thread in feeders:
        thread.join()
    rings.close(drain=True)
