"""Tells what happens: events of streams and of the daemon, numbered and redacted, into the outbox."""

from __future__ import annotations

import itertools
import secrets
import threading
import time

from loguru import logger
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
        self._lock = threading.Lock()  # makes numbering and posting one step: `n` rises on the wire

    def stream(
        self, lane: Lane, event: wire.StreamEventName, reason: Reason | None, detail: str | None
    ) -> None:
        """An event of a stream."""
        note = self._note(event, detail)
        note.stream, note.epoch = lane.stream, lane.epoch
        note.reason = UNSET if reason is None else reason.value
        self._post(note)

    def daemon(self, event: wire.DaemonEventName, detail: str | None) -> None:
        """An event of the whole daemon."""
        self._post(self._note(event, detail))

    def client_refused(self, detail: str) -> None:
        """Clients that the encrypted bus let not in, in sum."""
        logger.warning("refused on the bus: {}", detail)
        self.daemon("client_refused", detail)

    def _post(self, note: wire.EventMessage) -> None:
        with self._lock:
            note.n = next(self._numbers)
            self._outbox.note(note)

    def _note(
        self, event: wire.StreamEventName | wire.DaemonEventName, detail: str | None
    ) -> wire.EventMessage:
        return wire.EventMessage(
            run=self.run,
            n=0,  # given when it is posted
            at_us=wall_us(),
            event=event,
            detail=UNSET if detail is None else self._redact(detail),
        )
