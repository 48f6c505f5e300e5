"""Writes what comes over the bus into a recording."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from streamd.bus import wire
from streamd.bus.gaps import Gaps
from streamd.bus.recording import end_line, head_line, message_line
from streamd.core.text import printable
from streamd.core.timing import now_ns, wall_us
from streamd.service.line_file import LineFile


class _Place(msgspec.Struct, tag_field="schema", tag=wire.RESULT):
    """What of a result says where it belongs."""

    run: str
    stream: str
    epoch: int
    seq: int


_decode_place = msgspec.json.Decoder(_Place).decode


@dataclass(slots=True)
class Count:
    """What was recorded of one stream."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Messages by the last part of their topic: results, events, status, frames."""
    lost: int = 0
    """Results that did not arrive: holes in `seq`. Pictures have holes by their nature."""


class Recorder:
    """Takes messages and counts them. For one thread."""

    def __init__(self, file: LineFile, endpoint: str) -> None:
        self._file = file
        self._endpoint = endpoint
        self._gaps = Gaps()
        self._started_ns: int | None = None
        self._runs: set[str] = set()
        self.streams: dict[str, Count] = {}
        self.messages = 0

    @property
    def seconds(self) -> float:
        """Since the first message."""
        return 0.0 if self._started_ns is None else (now_ns() - self._started_ns) / 1e9

    @property
    def lost(self) -> int:
        """Results of all streams that did not arrive."""
        return sum(count.lost for count in self.streams.values())

    @property
    def runs(self) -> int:
        """How many lives of the daemon the results are from."""
        return len(self._runs)

    def take(self, parts: list[bytes]) -> None:
        """Write one message. Raises OutputError; what was written before it stays whole."""
        now = now_ns()
        head = b""
        if self._started_ns is None:
            # Only now: a recording of nothing leaves no file behind.
            self._started_ns = now
            head = head_line(self._endpoint, wall_us())
        self._file.write(head + message_line((now - self._started_ns) // 1000, parts))
        self.messages += 1
        self._count(parts)

    def end(self) -> None:
        """Write the last line, if there is a first. Raises OutputError."""
        if self._started_ns is not None:
            after_us = (now_ns() - self._started_ns) // 1000
            self._file.write(end_line(after_us, self.messages, self.lost))

    def _count(self, parts: list[bytes]) -> None:
        _, _, rest = printable(parts[0].decode(errors="replace")).partition("/")
        stream, _, kind = rest.rpartition("/")
        count = self.streams.setdefault(stream, Count())
        count.kinds[kind] += 1
        if kind == "results" and len(parts) > 1:
            try:
                place = _decode_place(parts[1])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return  # of a newer version, or rubbish: recorded as it is
            self._runs.add(place.run)
            count.lost += self._gaps.before(place.run, place.stream, place.epoch, place.seq)
