from __future__ import annotations

import threading

from streamd.pipeline.ledger import Drop
from streamd.pipeline.ring import Rings
from tests.support.frames import frame_of, lane_of, numbers


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
