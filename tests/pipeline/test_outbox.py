from __future__ import annotations

import threading

import numpy as np

from streamd.models.contract import Detections
from streamd.pipeline.outbox import Outbox, Result
from tests.support.frames import frame_of, lane_of

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def result_of(lane=None) -> Result:  # type: ignore[no-untyped-def]
    frame = frame_of(lane or lane_of("a"))
    return Result(frame, frame.lane.ledger.published(), NOTHING, "m@1", ("thing",), "CPUExecutionProvider")


def test_the_worker_waits_for_room_and_is_woken() -> None:
    outbox: Outbox[str] = Outbox(2)
    lane = lane_of("a")
    posted: list[int] = []

    def work() -> None:
        for _ in range(6):
            if outbox.wait_for_room():
                result = result_of(lane)
                posted.append(result.seq)
                outbox.post(result)

    worker = threading.Thread(target=work)
    worker.start()
    received: list[int] = []
    while len(received) < 6:
        received += [item.seq for item in outbox.take(5) or [] if isinstance(item, Result)]
        assert len(posted) <= len(received) + 4  # two waiting, two that came while these were taken
    worker.join(5)
    assert received == list(range(6))


def test_notes_never_block_and_only_the_newest_are_kept() -> None:
    outbox: Outbox[int] = Outbox(2)
    for n in range(3000):
        outbox.note(n)
    notes = outbox.take(0) or []
    assert notes == list(range(3000 - 1024, 3000))
    assert outbox.notes_lost == 3000 - 1024


def test_wakes_only_when_it_was_empty() -> None:
    wakes: list[int] = []
    outbox: Outbox[int] = Outbox(2, lambda: wakes.append(1))
    outbox.note(1)
    outbox.note(2)
    assert len(wakes) == 1
    outbox.take(0)
    outbox.note(3)
    assert len(wakes) == 2


def test_closing_hands_out_what_is_there_then_ends() -> None:
    outbox: Outbox[str] = Outbox(1)
    outbox.post(result_of())
    blocked = threading.Thread(target=outbox.wait_for_room)
    blocked.start()
    outbox.close()
    blocked.join(5)
    assert not blocked.is_alive()
    assert not outbox.wait_for_room()
    outbox.note("too late")
    assert len(outbox.take(0) or []) == 1
    assert outbox.take(0) is None
