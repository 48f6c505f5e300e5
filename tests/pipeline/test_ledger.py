from __future__ import annotations

import random
import threading

import pytest

from streamd.pipeline.ledger import Drop, Ledger


@pytest.mark.slow
def test_every_snapshot_balances_while_threads_count() -> None:
    ledger = Ledger()
    done = threading.Event()
    rounds = 20_000

    def count() -> None:
        rng = random.Random(threading.get_ident())
        for _ in range(rounds):
            ledger.decoded()
            if rng.random() < 0.5:
                ledger.published()
            else:
                ledger.dropped(rng.choice(list(Drop)))

    def sample() -> None:
        while not done.is_set():
            counts = ledger.snapshot()
            total = counts.published + sum(counts.dropped.values()) + counts.in_flight
            if counts.decoded != total or not 0 <= counts.in_flight <= 3:
                unbalanced.append(counts)

    unbalanced: list[object] = []
    sampler = threading.Thread(target=sample)
    sampler.start()
    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    sampler.join()
    assert unbalanced == []
    counts = ledger.snapshot()
    assert counts.decoded == 3 * rounds
    assert counts.in_flight == 0


def test_numbers_and_seqs_count_from_zero() -> None:
    ledger = Ledger()
    assert [ledger.decoded() for _ in range(3)] == [0, 1, 2]
    assert [ledger.published() for _ in range(2)] == [0, 1]
    ledger.dropped(Drop.STALE)
    assert ledger.snapshot().in_flight == 0
