from __future__ import annotations

import threading

from streamd.pipeline.slots import SlotPool
from tests.support.frames import TINY


def test_slots_are_made_when_needed_and_reused() -> None:
    pool = SlotPool(TINY, 2)
    stop = threading.Event()
    first, second = pool.acquire(stop), pool.acquire(stop)
    assert first is not None
    assert second is not None
    assert first.pixels.shape == (3, 8, 8)
    first.release()
    assert pool.acquire(stop) is first
    assert pool.in_use() == 2


def test_whoever_waits_gets_the_next_free_slot_or_is_let_go_by_stop() -> None:
    pool, stop = SlotPool(TINY, 1), threading.Event()
    slot = pool.acquire(stop)
    assert slot is not None
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(pool.acquire(stop)))
    waiter.start()
    slot.release()
    waiter.join(5)
    assert got == [slot]
    blocked = threading.Thread(target=lambda: got.append(pool.acquire(stop)))
    blocked.start()
    stop.set()
    blocked.join(5)
    assert got == [slot, None]


def test_a_pool_that_may_make_more_lets_go_whoever_waits() -> None:
    pool, stop = SlotPool(TINY, 1), threading.Event()
    first = pool.acquire(stop)
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(pool.acquire(stop)))
    waiter.start()
    pool.allow(2)
    waiter.join(5)
    assert len(got) == 1
    assert got != [first]
    pool.allow(1)  # never fewer
    assert pool.in_use() == 2
