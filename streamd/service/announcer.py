"""Tells what happens: events of streams and of the daemon, numbered and redacted, into the outbox."""

from __future__ import annotations

import itertools
import secrets
import time

from msgspec import UNSET

from streamd.bus import wire
from streamd.bus.publisher import Note
from streamd.core.errors import Reason
from streamd.core.secrets import Redactor
from streamd.core.timing import wall_us
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox


def new_run() -> str:
    """An opaque name for this process's life, sortable by start time."""
    return f"{int(time.time()):08x}{secrets.token_hex(3)}"


class Announcer:
    """Makes events. Any thread may call it; no call blocks."""

    def __init__(self, outbox: Outbox[Note], redact: Redactor) -> None:
        self.run = new_run()
        self._outbox = outbox
        self._redact = redact
        self._numbers = itertools.count()

    def stream(
        self, lane: Lane, event: wire.StreamEventName, reason: Reason | None, detail: str | None
    ) -> None:
        """An event of a stream."""
        note = self._note(event, detail)
        note.stream, note.epoch = lane.stream, lane.epoch
        note.reason = UNSET if reason is None else reason.value
        self._outbox.note(note)

    def daemon(self, event: wire.DaemonEventName, detail: str | None) -> None:
        """An event of the whole daemon."""
        self._outbox.note(self._note(event, detail))

    def _note(
        self, event: wire.StreamEventName | wire.DaemonEventName, detail: str | None
    ) -> wire.EventMessage:
        return wire.EventMessage(
            run=self.run,
            n=next(self._numbers),
            at_us=wall_us(),
            event=event,
            detail=UNSET if detail is None else self._redact(detail),
        )
