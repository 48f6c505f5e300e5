"""Recordings that play on a real endpoint, in a thread of this process."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from streamd.bus import wire
from streamd.bus.endpoint import Endpoint
from streamd.bus.recording import Recording, end_line, head_line, message_line
from streamd.bus.replay import Pace, Replay
from streamd.core.errors import OutputError


class Bench:
    """A replay that runs."""

    def __init__(self, file: bytes, pace: Pace, bind: str) -> None:
        self.stop = threading.Event()
        self.bound = threading.Event()
        self.endpoint = ""
        self.failure: Exception | None = None
        self.replay = Replay(
            Recording(io.BytesIO(file), "s.jsonl"), Endpoint("--bind", bind), pace, self.stop
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.replay.run(self._entered)
        except OutputError as error:
            self.failure = error
        self.bound.set()

    def _entered(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.bound.set()


@contextmanager
def running(file: bytes, pace: Pace, bind: str = "tcp://127.0.0.1:0") -> Iterator[Bench]:
    bench = Bench(file, pace, bind)
    try:
        assert bench.bound.wait(10)
        yield bench
    finally:
        bench.stop.set()
        bench.thread.join(10)
        assert not bench.thread.is_alive()


def result(seq: int, padding: int = 0) -> bytes:
    return wire.encode(
        wire.ResultMessage(
            run="r1", stream="gate", epoch=0, seq=seq, frame=seq, dropped=0, received_us=1, published_us=2,
            clock="file", width=64, height=48, model="m" * (1 + padding), provider="CPUExecutionProvider",
            stages_ms={"total": 1.0}, objects=[wire.Object(0, "person", 0.5, (1.0, 2.0, 3.0, 4.0))],
        )
    )  # fmt: skip


def results(number: int, interval_us: int, padding: int = 0) -> bytes:
    lines = [
        message_line(i * interval_us, [b"streamd/gate/results", result(i, padding)]) for i in range(number)
    ]
    return head_line("tcp://x", 1) + b"".join(lines) + end_line(number * interval_us, number, 0)


def session(rounds: int = 5, interval_us: int = 100_000) -> bytes:
    """A daemon with one stream: a status, an event and a result each round."""
    event = wire.EventMessage(
        run="r1", stream="gate", epoch=0, n=1, at_us=1, event="live", detail="64x48 test"
    )
    lines = [message_line(0, [b"streamd/gate/events", wire.encode(event)])]
    for i in range(rounds):
        status = wire.StatusMessage(
            run="r1", version="0.1.0", uptime_s=10.0 + i, provider="CPUExecutionProvider", model="m@1",
            streams={"gate": wire.StreamStatus(state="live", fps=10, seq=i, decoded=i, dropped=0)},
        )  # fmt: skip
        lines.append(message_line(i * interval_us, [b"streamd/_daemon/status", wire.encode(status)]))
        lines.append(message_line(i * interval_us, [b"streamd/gate/results", result(i)]))
    return head_line("tcp://x", 1) + b"".join(lines) + end_line(rounds * interval_us, len(lines), 0)
