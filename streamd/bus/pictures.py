"""The thread `frames`: source pictures with their results, on a socket of their own, for whoever subscribes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import zmq

from streamd.bus import wire
from streamd.bus.admission import Admission, Door
from streamd.bus.endpoint import Endpoint, serve
from streamd.bus.wake import Wake
from streamd.core.picture import Picture
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.lane import Frame

Encode = Callable[[str, Picture], bytes | None]
"""A stream's picture as a JPEG file; None when it cannot be one."""

_SEND_QUEUE = 2  # pictures a subscriber may lag before it loses some
_POLL_MS = 200  # how soon `stop` is seen
_HEARD = 100  # subscriptions in a turn: whoever asks without end must not keep pictures from the others
# A TCP subscriber that lost its power, or hangs, says no goodbye: after so long without a sign it is disconnected, or
# pictures would be encoded for nobody. A ping of ZeroMQ's own would do the same, but not every library answers it.
_GONE_S = 30


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of one stream's pictures."""

    sent: int = 0
    """Encoded and handed to the socket; a subscriber that lags may still lose them."""
    overtaken: int = 0
    """Never encoded: a newer one came first."""
    failed: int = 0
    """Could not be encoded."""


class PicturePublisher:
    """Owns the pictures' XPUB socket. `run` is the body of thread `frames`; any thread may call the rest.

    Of each stream one picture waits at most, and the newest wins: whoever offers one never waits.
    """

    def __init__(
        self, endpoint: Endpoint, encode: Encode, max_fps: float, admission: Admission | None = None
    ) -> None:
        """admission: encrypts the pictures, and says who may have them; None: everybody who can connect."""
        self._at = endpoint
        self._admission = admission
        self._encode = encode
        self._max_fps = max_fps
        self._wake = Wake()
        self._lock = threading.Lock()  # guards the five fields below
        self._keeping: dict[str, Keeping] = {}
        self._counts: dict[str, Counts] = {}
        self._prefixes: set[bytes] = set()
        self._waiting: dict[str, tuple[bytes, Picture]] = {}
        self._ended = False
        self.bound = threading.Event()
        self.endpoint = endpoint.address
        """The endpoint bound to; differs from the one asked for when that named port 0 or `*`."""

    def keeping(self, stream: str) -> Keeping:
        """What decides over this stream's pictures; the same one for a stream that was added again."""
        with self._lock:
            keeping = self._keeping.get(stream)
            if keeping is None:
                keeping = Keeping(self._max_fps, wanted=self._is_wanted(stream))
                self._keeping[stream] = keeping
            return keeping

    def counts(self, stream: str) -> Counts:
        """Of one moment, since the start."""
        with self._lock:
            return self._counts.get(stream, Counts())

    def offer(self, frame: Frame, header: bytes) -> None:
        """Leave a published frame's picture, if it has one, with the header of its result. Never blocks for long."""
        if frame.picture is None:
            return
        stream = frame.lane.stream
        with self._lock:
            if self._ended or not frame.lane.keeping.wanted:
                return
            was_empty = not self._waiting
            if stream in self._waiting:
                self._count(stream, overtaken=1)
            # A stream keeps its place in the row, so that all get their turn when encoding is behind.
            self._waiting[stream] = (header, frame.picture)
        if was_empty:
            self._wake()

    def run(self, stop: threading.Event) -> None:
        """Bind, then send pictures until `stop` is set. Raises OutputError when binding fails."""
        try:
            serve(self._at, self._admission, self._prepare, self._entered, partial(self._serve, stop))
        finally:
            with self._lock:
                self._ended = True
                self._waiting.clear()
            self._wake.close()

    def _prepare(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _GONE_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
        socket.setsockopt(zmq.TCP_MAXRT, _GONE_S * 1000)

    def _entered(self, endpoint: str) -> None:
        self.endpoint = endpoint
        with self._lock:
            # Whoever subscribed to a socket that was given up comes back.
            self._prefixes.clear()
            self._decide()
        self.bound.set()

    def _serve(self, stop: threading.Event, socket: zmq.Socket[bytes], door: Door | None) -> bool:
        """Until `stop` is set; False as soon as the socket holds somebody who may not read."""
        poller = zmq.Poller()
        if door is not None:
            door.register(poller)
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        while not stop.is_set():
            ready = dict(poller.poll(0 if self._waiting else _POLL_MS))
            if self._wake.fileno() in ready:
                # Cleared before taking: an offer in between wakes again, it is never missed.
                self._wake.clear()
            if socket in ready:
                self._hear(socket)
            if door is not None:
                door.attend()
                if door.holds_a_stranger():
                    return False
            # One at a time: a newer one may overtake those that wait, and subscribers come and go.
            self._send_next(socket)
        return True

    def _hear(self, socket: zmq.Socket[bytes]) -> None:
        """Take in who subscribes to what: XPUB tells of a prefix's first subscriber, and when it has none left."""
        heard = []
        for _ in range(_HEARD):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            # Subscriptions are single; the rest is what others send upstream.
            if len(parts) == 1:
                heard.append(parts[0])
        with self._lock:
            for request in heard:
                kind, prefix = request[:1], request[1:]
                if kind == b"\x01":
                    self._prefixes.add(prefix)
                elif kind == b"\x00":
                    self._prefixes.discard(prefix)
            self._decide()

    def _decide(self) -> None:
        for stream, keeping in self._keeping.items():
            keeping.wanted = self._is_wanted(stream)
            if not keeping.wanted:
                self._waiting.pop(stream, None)

    def _is_wanted(self, stream: str) -> bool:
        return wire.topic(stream, "frames").startswith(tuple(self._prefixes))

    def _send_next(self, socket: zmq.Socket[bytes]) -> None:
        with self._lock:
            if not self._waiting:
                return
            stream = next(iter(self._waiting))
            header, picture = self._waiting.pop(stream)
        jpeg = self._encode(stream, picture)
        if jpeg is not None:
            # Never blocks: XPUB leaves out who has its queue full.
            socket.send_multipart((wire.topic(stream, "frames"), header, jpeg))
        with self._lock:
            self._count(stream, sent=jpeg is not None, failed=jpeg is None)

    def _count(self, stream: str, *, sent: int = 0, overtaken: int = 0, failed: int = 0) -> None:
        was = self._counts.get(stream, Counts())
        self._counts[stream] = Counts(was.sent + sent, was.overtaken + overtaken, was.failed + failed)
