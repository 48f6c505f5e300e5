from __future__ import annotations

import random
import threading
import time

import pytest

from streamd.pipeline.ledger import Drop
from streamd.pipeline.ring import GATHER_S, PATIENCE_S, Ring, Rings
from tests.support.frames import frame_of, lane_of, numbers


def taken_until_closed(rings: Rings, limit: int) -> list[int]:
    """The sizes of all batches until the end."""
    sizes = []
    while (batch := rings.take(limit, 60)) is not None:
        sizes.append(len(batch))
        for frame in batch:
            frame.drop(Drop.STALE)
    return sizes


def test_the_newest_wins_and_the_oldest_is_counted() -> None:
    rings, lane = Rings(), lane_of("a")
    ring = rings.add(lane, 2)
    for _ in range(5):
        ring.put_newest_wins(frame_of(lane))
    assert numbers(rings.take(8, 0) or []) == [("a", 3), ("a", 4)]
    counts = lane.ledger.snapshot()
    assert counts.dropped[Drop.RING_FULL] == 3
    assert counts.in_flight == 2
    assert lane.slots.in_use() == 2


def test_a_batch_is_shared_fairly_and_in_order() -> None:
    rings = Rings()
    lanes = {name: lane_of(name) for name in "abc"}
    ring = {name: rings.add(lane, 8) for name, lane in lanes.items()}
    for name, count in (("a", 6), ("b", 1), ("c", 3)):
        for _ in range(count):
            ring[name].put_newest_wins(frame_of(lanes[name]))
    first = numbers(rings.take(4, 0) or [])
    assert sorted(first) == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    rest = numbers(rings.take(8, 0) or [])
    assert [n for name, n in rest if name == "a"] == [2, 3, 4, 5]
    assert [n for name, n in rest if name == "c"] == [1, 2]


def test_small_batches_turn_over_all_streams() -> None:
    rings = Rings()
    lanes = [lane_of(str(i)) for i in range(5)]
    for lane in lanes:
        ring = rings.add(lane, 8)
        for _ in range(4):
            ring.put_newest_wins(frame_of(lane))
    served = [numbers(rings.take(2, 0) or []) for _ in range(5)]
    names = [name for batch in served for name, _ in batch]
    assert {name: names.count(name) for name in names} == {str(i): 2 for i in range(5)}


def test_a_fast_file_gets_only_what_the_others_leave() -> None:
    rings = Rings()
    camera, archive = lane_of("camera"), lane_of("archive", live=False)
    archive.urgent = False
    camera_ring, archive_ring = rings.add(camera, 8), rings.add(archive, 8)
    archive_ring.put_wait_for_room(frame_of(archive))
    camera_ring.put_newest_wins(frame_of(camera))
    assert numbers(rings.take(8, 0) or []) == [("camera", 0)]
    assert numbers(rings.take(8, 0) or []) == [("archive", 0)]


def test_take_waits_at_most_its_timeout_and_ends_when_closed() -> None:
    rings, lane = Rings(), lane_of("a")
    rings.add(lane, 2)
    assert rings.take(8, 0.01) == []
    rings.close(drain=True)
    assert rings.take(8, 10) is None


def test_closing_drains_or_drops() -> None:
    for drain, expected, dropped in ((True, [("a", 0), ("a", 1)], 0), (False, [], 2)):
        rings, lane = Rings(), lane_of("a")
        ring = rings.add(lane, 4)
        for _ in range(2):
            ring.put_newest_wins(frame_of(lane))
        rings.close(drain=drain)
        assert numbers(rings.take(8, 0) or []) == expected
        assert lane.ledger.snapshot().dropped[Drop.SHUTDOWN] == dropped
        ring.put_newest_wins(frame_of(lane))
        ring.put_wait_for_room(frame_of(lane))
        assert lane.ledger.snapshot().dropped[Drop.SHUTDOWN] == dropped + 2


def test_a_waiting_decoder_is_let_go_by_room_and_by_the_end() -> None:
    rings, lane = Rings(), lane_of("a", live=False)
    ring = rings.add(lane, 1)
    ring.put_wait_for_room(frame_of(lane))

    def put_two_more() -> None:
        ring.put_wait_for_room(frame_of(lane))
        ring.put_wait_for_room(frame_of(lane))

    decoder = threading.Thread(target=put_two_more)
    decoder.start()
    assert numbers(rings.take(8, 5) or []) == [("a", 0)]
    assert numbers(rings.take(8, 5) or []) == [("a", 1)]
    assert numbers(rings.take(8, 5) or []) == [("a", 2)]
    decoder.join(5)
    ring.put_wait_for_room(frame_of(lane))
    blocked = threading.Thread(target=lambda: ring.put_wait_for_room(frame_of(lane)))
    blocked.start()
    rings.close(drain=True)
    blocked.join(5)
    assert not blocked.is_alive()
    assert numbers(rings.take(8, 0) or []) == [("a", 3)]
    assert lane.ledger.snapshot().dropped[Drop.SHUTDOWN] == 1


def test_filled_batches_do_not_depend_on_timing() -> None:
    rings, lane = Rings(), lane_of("a", live=False)
    ring = rings.add(lane, 4)

    def decode() -> None:
        for _ in range(10):
            ring.put_wait_for_room(frame_of(lane))
        rings.close(drain=True)

    decoder = threading.Thread(target=decode)
    decoder.start()
    sizes = []
    while (batch := rings.take(4, 0, fill=True)) is not None:
        sizes.append(len(batch))
    decoder.join(5)
    assert sizes == [4, 4, 2]


def test_a_removed_stream_leaves_the_others_alone() -> None:
    rings = Rings()
    gone, stays = lane_of("gone"), lane_of("stays")
    gone_ring, stays_ring = rings.add(gone, 4), rings.add(stays, 4)
    gone_ring.put_newest_wins(frame_of(gone))
    stays_ring.put_newest_wins(frame_of(stays))
    rings.remove(gone_ring, Drop.REMOVED)
    gone_ring.put_newest_wins(frame_of(gone))
    assert numbers(rings.take(8, 0) or []) == [("stays", 0)]
    assert gone.ledger.snapshot().dropped[Drop.REMOVED] == 2
    assert gone.ledger.snapshot().in_flight == 0
    assert gone.slots.in_use() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("pause_s", "shared"), [(GATHER_S / 20, True), (GATHER_S * 4, False)])
def test_frames_that_come_often_share_a_wake_up_and_others_do_not_wait(pause_s: float, shared: bool) -> None:
    rings = Rings()
    lanes = [lane_of(str(number)) for number in range(4)]
    all_rings = [rings.add(lane, 4) for lane in lanes]
    frames = round(60 * GATHER_S / pause_s) if shared else 20

    def come() -> None:
        for number in range(frames):
            all_rings[number % 4].put_newest_wins(frame_of(lanes[number % 4]))
            time.sleep(pause_s)
        rings.close(drain=True)

    source = threading.Thread(target=come)
    source.start()
    sizes = taken_until_closed(rings, 8)
    source.join(5)
    if shared:
        assert len(sizes) < frames / 2
    else:
        assert len(sizes) > frames / 2


def test_a_decoder_that_would_wait_for_room_ends_the_gathering() -> None:
    rings, lane = Rings(), lane_of("a", live=False)
    ring = rings.add(lane, 2)
    frames = 1000

    def decode() -> None:
        for _ in range(frames):
            ring.put_wait_for_room(frame_of(lane))
        rings.close(drain=True)

    decoder = threading.Thread(target=decode)
    started = time.monotonic()
    decoder.start()
    sizes = taken_until_closed(rings, 8)
    took_s = time.monotonic() - started
    decoder.join(5)
    assert sum(sizes) == frames
    assert max(sizes) <= 2
    assert took_s < len(sizes) * GATHER_S / 2  # had it waited each time, it would be all of it


def test_frames_of_a_fast_file_wait_for_a_whole_batch_but_not_for_ever() -> None:
    rings, lane = Rings(), lane_of("archive", live=False)
    lane.urgent = False
    ring = rings.add(lane, 16)
    sizes: list[int] = []

    def work() -> None:
        while (batch := rings.take(8, 60)) is not None:
            sizes.append(len(batch))

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.05)
    ring.put_wait_for_room(frame_of(lane))
    time.sleep(0.05)
    first = list(sizes)
    for _ in range(11):
        ring.put_wait_for_room(frame_of(lane))
        time.sleep(0.001)
    patience = time.monotonic() + 20 * PATIENCE_S
    while sum(sizes) < 12 and time.monotonic() < patience:
        time.sleep(0.01)
    found = [size for size in sizes if size]
    rings.close(drain=True)
    worker.join(5)
    assert first == [1]  # nobody knows yet that others follow
    assert sum(found) == 12
    assert len(found) <= 4


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_fast_file_whose_ring_is_full_is_not_kept_waiting(size: int) -> None:
    rings, lane = Rings(), lane_of("archive", live=False)
    lane.urgent = False
    ring = rings.add(lane, size)
    frames = 200

    def decode() -> None:
        for _ in range(frames):
            ring.put_wait_for_room(frame_of(lane))
        rings.close(drain=True)

    decoder = threading.Thread(target=decode)
    started = time.monotonic()
    decoder.start()
    sizes = taken_until_closed(rings, 8)
    took_s = time.monotonic() - started
    decoder.join(5)
    assert sum(sizes) == frames
    assert took_s < frames / size * PATIENCE_S / 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_nobody_sleeps_while_frames_wait(seed: int) -> None:
    rings = Rings()
    lanes = [lane_of(str(number), live=number % 2 == 0) for number in range(6)]
    for lane in lanes[4:]:
        lane.urgent = False
    at_once = random.Random(seed)

    def come(ring: Ring, seconds: list[float]) -> None:
        for pause_s in seconds:
            time.sleep(pause_s)
            if ring.lane.live:
                ring.put_newest_wins(frame_of(ring.lane))
            else:
                ring.put_wait_for_room(frame_of(ring.lane))

    sources = []
    for lane in lanes:
        pauses = [at_once.choice([0, 0, 0.0002, GATHER_S, 2 * GATHER_S]) for _ in range(200)]
        sources.append(threading.Thread(target=come, args=(rings.add(lane, 2), pauses)))
    taken: list[int] = []
    worker = threading.Thread(target=lambda: taken.extend(taken_until_closed(rings, 8)))
    for thread in (worker, *sources):
        thread.start()
    for source in sources:
        source.join(20)  # a token that is lost lets those with back-pressure wait for a minute
    assert not any(source.is_alive() for source in sources)
    rings.close(drain=True)
    worker.join(20)
    assert not worker.is_alive()
    accounts = [lane.ledger.snapshot() for lane in lanes]
    assert [account.in_flight for account in accounts] == [0] * 6
    full = sum(account.dropped[Drop.RING_FULL] for account in accounts)
    assert sum(taken) + full == 6 * 200
