from __future__ import annotations

import threading

from streamd.bus.publisher import Note
from streamd.core.secrets import Redactor
from streamd.pipeline.outbox import Outbox, Result
from streamd.service.announcer import Announcer


def test_numbers_rise_in_the_order_of_posting() -> None:
    """A client drops every `n` that it knows: one that comes late would be lost."""
    outbox: Outbox[Note] = Outbox(1)
    announcer = Announcer(outbox, Redactor())
    seen: list[int] = []
    tellers = [
        threading.Thread(target=lambda: [announcer.daemon("ready", None) for _ in range(200)])
        for _ in range(4)
    ]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        teller.join()
    for note in outbox.take(0) or []:
        assert not isinstance(note, Result)
        seen.append(note.n)  # type: ignore[union-attr]
    assert seen == list(range(800))
