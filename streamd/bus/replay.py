"""A recording on the bus again, with its timing: an endpoint like a daemon's, without cameras and model."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from streamd.bus.admission import Admission, Door
from streamd.bus.endpoint import Endpoint, serve
from streamd.bus.recording import Recorded, Recording
from streamd.core.timing import now_ns

_TURN_MS = 200  # how soon a stop is seen
_FULL_MS = 2  # between two looks whether a full subscriber has taken something
_SEND_QUEUE = 1000  # as a daemon's
_LINGER_MS = 5000  # how long subscribers have for what is still queued for them at the end
_SHORTEST_ROUND_US = 1_000_000  # a recording of one message, played for ever, is one message a second


@dataclass(frozen=True, slots=True)
class Pace:
    """How a recording is played."""

    speed: float | None = 1.0
    """Times as fast as it was recorded; None: as fast as the slowest subscriber takes it, and nothing is lost."""
    loop: bool = False
    wait: bool = True
    """Begin when somebody subscribes."""


class Replay:
    """Plays a recording; `run` blocks, in the thread that calls it. The rest may be read by others."""

    def __init__(
        self,
        recording: Recording,
        at: Endpoint,
        pace: Pace,
        stop: threading.Event,
        admission: Admission | None = None,
    ) -> None:
        """admission: encrypts the endpoint, and says who may read; None: everybody who can connect."""
        self._recording = recording
        self._at = at
        self._pace = pace
        self._stop = stop
        self._admission = admission
        self._door: Door | None = None
        self._poller = zmq.Poller()
        self._prefixes: set[bytes] = set()
        self._last: dict[bytes, bytes] = {}
        self.fault: str | None = None
        """Why the recording was not played to its end."""
        self.sent = 0

    def run(self, entered: Callable[[str], None]) -> None:
        """Bind, then play until the end, or until `stop` is set. `entered` is told where it was bound.

        Raises OutputError when binding fails, StreamdError when the recording cannot be read any more.
        """
        serve(self._at, self._admission, self._prepare, entered, self._play)

    def _prepare(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
        if self._pace.speed is None:
            socket.setsockopt(zmq.XPUB_NODROP, 1)

    def _play(self, socket: zmq.Socket[bytes], door: Door | None) -> bool:
        self._door = door
        self._poller.register(socket, zmq.POLLIN)
        if door is not None:
            door.register(self._poller)
        while self._pace.wait and not self._prefixes and not self._stop.is_set():
            self._hear(socket, _TURN_MS)
        # Every moment is counted from the start, so that what is late is caught up with and nothing adds up.
        start_ns = now_ns()
        while not self._stop.is_set():
            sent = self.sent
            for message in self._recording.messages():
                if not self._wait_for(socket, start_ns, message):
                    break
                self._send(socket, message.parts)
                self.sent += 1
            self.fault = self.fault or self._recording.fault
            if not self._pace.loop or self.sent == sent:
                break
            start_ns += self._after_ns(max(self._recording.length_us, _SHORTEST_ROUND_US))
            self._recording.rewind()
        socket.setsockopt(zmq.LINGER, 0 if self._stop.is_set() else _LINGER_MS)
        return True

    def _after_ns(self, after_us: int) -> int:
        return 0 if self._pace.speed is None else int(after_us * 1000 / self._pace.speed)

    def _wait_for(self, socket: zmq.Socket[bytes], start_ns: int, message: Recorded) -> bool:
        """Until it is due, greeting new subscribers meanwhile; False when it is not to be sent any more."""
        due_ns = start_ns + self._after_ns(message.after_us)
        timeout_ms = 0
        while not self._stop.is_set():
            self._hear(socket, timeout_ms)
            if self._pace.speed is None:
                if self._prefixes or not self._pace.wait:
                    return True
                timeout_ms = _TURN_MS
            else:
                left_ns = due_ns - now_ns()
                if left_ns <= 0:
                    return True
                timeout_ms = min(_TURN_MS, math.ceil(left_ns / 1e6))
        return False

    def _send(self, socket: zmq.Socket[bytes], parts: list[bytes]) -> None:
        while True:
            try:
                socket.send_multipart(parts, zmq.NOBLOCK)
                break
            except zmq.Again:  # only where nothing may be lost
                if self._stop.is_set():
                    return
                self._stop.wait(_FULL_MS / 1000)
                self._hear(socket, 0)
        self._keep(parts)

    def _keep(self, parts: list[bytes]) -> None:
        """What a daemon would send again to new subscribers: the last event of each stream, the last status."""
        if len(parts) != 2 or not parts[0].endswith((b"/events", b"/status")):
            return
        note = _object(parts[1])
        event = None if note is None else note.get("event")
        if event == "removed":
            self._last.pop(parts[0], None)
        elif note is not None and event != "reset":
            self._last[parts[0]] = msgspec.json.encode({**note, "replay": True})

    def _hear(self, socket: zmq.Socket[bytes], timeout_ms: int) -> None:
        """Take in one subscription, if one comes in time, and send the last values to whoever it is."""
        ready = dict(self._poller.poll(timeout_ms))
        if self._door is not None:
            self._door.attend()
        if socket not in ready:
            return
        parts = socket.recv_multipart()
        request = parts[0] if len(parts) == 1 else b""
        if request[:1] == b"\x00":
            self._prefixes.discard(request[1:])
        elif request[:1] == b"\x01":
            self._prefixes.add(request[1:])
            for topic, header in self._last.items():
                if topic.startswith(request[1:]):
                    try:
                        socket.send_multipart([topic, header], zmq.NOBLOCK)
                    except zmq.Again:
                        return  # somebody is full, and what comes next says the same


def _object(header: bytes) -> dict[str, object] | None:
    """A message of whatever version, if it is a JSON object."""
    try:
        found = msgspec.json.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
