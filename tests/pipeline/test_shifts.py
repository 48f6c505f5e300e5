"""As many decoders of fast files at work as there are cores, each for a while, and none left out."""

from __future__ import annotations

import resource
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from streamd.core.picture import Layout, Matrix, Picture
from streamd.models.contract import Array, Placement
from streamd.pipeline import shifts
from streamd.pipeline.decoder import EveryPicture, Feed
from streamd.pipeline.ring import Rings
from streamd.pipeline.shifts import Shift, Shifts
from tests.support.frames import lane_of
from tests.support.waiting import until


class Work:
    """Who is at it, how many at once at most, and in which order they came to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_it: set[int] = set()
        self.most = 0
        self.order: list[int] = []

    def picture(self, who: int) -> None:
        """Decode one, for a moment."""
        with self._lock:
            self._at_it.add(who)
            self.most = max(self.most, len(self._at_it))
            if not self.order or self.order[-1] != who:
                self.order.append(who)
        time.sleep(0.001)
        with self._lock:
            self._at_it.discard(who)


def crew_of(count: int, body: Callable[[int], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("places", [1, 2])
def test_so_many_are_at_work_and_each_gets_its_turns(monkeypatch: pytest.MonkeyPatch, places: int) -> None:
    monkeypatch.setattr(shifts, "_WHILE_NS", 5_000_000)
    all_of_them, work, over = Shifts(places), Work(), threading.Event()

    def decode(who: int) -> None:
        with all_of_them.next() as shift:
            while not over.is_set():
                work.picture(who)
                shift.go_on()

    threads = crew_of(5, decode)
    until(lambda: len(work.order) > 100)
    over.set()
    join(threads)
    assert work.most == places
    counts = Counter(work.order[:100])
    assert len(counts) == 5
    assert min(counts.values()) > max(counts.values()) // 2


def test_alone_it_goes_on_without_making_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shifts, "_WHILE_NS", 0)
    ends: list[Shift] = []
    monkeypatch.setattr(Shift, "end", lambda self, end=Shift.end: (ends.append(self), end(self)))
    with Shifts(1).next() as shift:
        for _ in range(10):
            shift.go_on()
        assert not ends
    assert ends == [shift]


def test_who_waits_for_room_takes_no_place() -> None:
    rings, stop = Rings(), threading.Event()
    rings.shifts = Shifts(1)
    lanes = [lane_of(name, live=False) for name in ("blocked", "free")]
    feeds = [
        Feed(
            lane,
            rings.add(lane, capacity),
            lambda target: Nothing(),
            EveryPicture(),
            "file",
            shift=rings.shifts.next(),
        )
        for lane, capacity in zip(lanes, (1, 100), strict=True)
    ]

    def decode(number: int) -> None:
        feed = feeds[number]
        assert feed.shift is not None
        with feed.shift:
            for _ in range(50):
                feed.accept(_picture(), stop)

    threads = crew_of(2, decode)
    until(lambda: lanes[1].ledger.snapshot().decoded == 50)
    assert lanes[0].ledger.snapshot().decoded == 2
    rings.close(drain=False)
    join(threads)


def test_whose_source_hangs_is_not_waited_for_and_queues_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shifts, "_WHILE_NS", 5_000_000)
    monkeypatch.setattr(shifts, "_PATIENCE_S", 0.2)
    all_of_them, work = Shifts(1), Work()
    hangs, over = threading.Event(), threading.Event()

    def decode(who: int) -> None:
        with all_of_them.next() as shift:
            if who == 0:
                hangs.wait(20)
            while not over.is_set():
                work.picture(who)
                shift.go_on()

    first = crew_of(1, decode)
    until(lambda: len(all_of_them._working) == 1)
    others = crew_of(2, lambda who: decode(who + 1))
    until(lambda: len(work.order) > 20)
    assert set(work.order) == {1, 2}
    assert work.most == 1
    hangs.set()
    until(lambda: work.order.count(0) > 1)
    back = len(work.order)
    until(lambda: len(work.order) > back + 30)
    over.set()
    join([*first, *others])
    # For its first picture nobody has asked it to wait.
    assert work.most <= 2
    assert min(Counter(work.order[back:]).values()) >= 5
    assert not all_of_them._working


def test_without_a_file_more_to_be_had_it_works_all_the_same() -> None:
    all_of_them = Shifts(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with all_of_them.next():
        shift = all_of_them.next()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            shift.__enter__()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        shift.go_on()
        shift.end()
        shift.begin()
        shift.__exit__(None, None, None)
    with all_of_them.next():
        assert len(all_of_them._working) == 1
    assert not all_of_them._working


class Nothing:
    """In the letterbox's place: writes nothing."""

    def write(self, picture: Picture, pixels: Array, previous: Placement | None) -> Placement:
        return Placement(1, 1, 0, 0)


def _picture() -> Picture:
    now = time.monotonic_ns()
    plane = np.zeros((64, 64), np.uint8)
    return Picture(
        (plane,), Layout.GRAY, Matrix.BT601, True, 0, 64, 64, None, None, now, 1, None, True, False, None
    )
