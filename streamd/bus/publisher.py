"""The publisher thread: takes results and notes from the outbox and sends them over one XPUB socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import zmq

from streamd.bus import wire
from streamd.bus.admission import Admission, Door
from streamd.bus.endpoint import Endpoint, serve
from streamd.bus.messages import result_message
from streamd.bus.wake import Wake
from streamd.core.histograms import StageTimes
from streamd.core.timing import now_ns, wall_us
from streamd.pipeline.lane import Frame
from streamd.pipeline.outbox import Outbox, Result

Note = wire.EventMessage | wire.StatusMessage
_SEND_QUEUE = 1000  # messages a subscriber may lag before it loses some (countable by `seq`)
_POLL_MS = 1000
_TURNS = 20  # looks at the outbox between two looks at the subscribers
_GREETED = 100  # subscriptions in a turn: whoever asks without end must not keep results from the others


class LastValues:
    """The last event of each stream and the last status, sent again to a new subscriber, marked `replay`."""

    def __init__(self) -> None:
        self._notes: dict[bytes, Note] = {}

    def keep(self, topic: bytes, note: Note) -> None:
        """Remember a note; `removed` clears its stream's, and `reset` says nothing of how things stand."""
        event = note.event if isinstance(note, wire.EventMessage) else None
        if event == "removed":
            self._notes.pop(topic, None)
        elif event != "reset":
            self._notes[topic] = note

    def matching(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Topics and messages for somebody who has just subscribed to `prefix`."""
        found = []
        for topic, note in self._notes.items():
            if topic.startswith(prefix):
                note.replay = True
                found.append((topic, wire.encode(note)))
        return found


class Publisher:
    """Owns the XPUB socket. `run` is the body of the thread `publish`; the rest may be called by others."""

    def __init__(
        self,
        bind: str,
        outbox: Outbox[Note],
        wake: Wake,
        run_id: str,
        *,
        group: str | None = None,
        admission: Admission | None = None,
        times_of: Callable[[str], StageTimes | None] = lambda stream: None,
        on_sent: Callable[[Frame, bytes], None] | None = None,
    ) -> None:
        """admission: encrypts the bus, and says who may read; None: everybody who can connect."""
        self._bind = Endpoint("publish.bind", bind, group)
        self._admission = admission
        self._outbox = outbox
        self._wake = wake
        self._run_id = run_id
        self._times_of = times_of
        self._on_sent = on_sent
        self._last = LastValues()
        self.bound = threading.Event()
        self.endpoint = bind
        """The endpoint bound to; differs from the one asked for when that named port 0 or `*`."""
        self.beat_ns = now_ns()
        """When the loop last turned: it does so at least each second."""

    def allow(self, clients: Mapping[str, str]) -> None:
        """Exchange the list of an encrypted bus: public half to name. Any thread; never blocks.

        Who was let in and is not listed any more is cut off. ZeroMQ cannot end one connection alone, so all are
        ended: the others come back by themselves and see a hole in `seq`.
        """
        if self._admission is not None:
            self._admission.allow(clients)
            self._wake()

    def run(self) -> None:
        """Bind, then publish until the outbox is closed and empty. Raises OutputError when binding fails."""
        try:
            serve(self._bind, self._admission, self._prepare, self._entered, self._serve)
        finally:
            self._wake.close()

    def _prepare(self, socket_: zmq.Socket[bytes]) -> None:
        socket_.setsockopt(zmq.XPUB_VERBOSE, 1)  # tells of each subscription, also of one it has already
        socket_.setsockopt(zmq.SNDHWM, _SEND_QUEUE)

    def _entered(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.bound.set()

    def _serve(self, socket_: zmq.Socket[bytes], door: Door | None) -> bool:
        """Until the outbox is closed and empty; False as soon as the socket holds somebody who may not read."""
        poller = zmq.Poller()
        if door is not None:
            door.register(poller)
        poller.register(socket_, zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll(_POLL_MS))
            self.beat_ns = now_ns()
            if self._wake.fileno() in ready:
                # Cleared before taking: a post in between wakes again, it is never missed.
                self._wake.clear()
            if socket_ in ready:
                self._greet(socket_)
            if door is not None:
                door.attend()
                if door.holds_a_stranger():
                    return False
            # The wake-up is spent: what was posted, or closed, since then is found by looking again. But only so
            # often, since subscribers wait too; then the poll must not sleep.
            for _ in range(_TURNS):
                items = self._outbox.take(0)
                if items is None:
                    return True
                if not items:
                    break
                for item in items:
                    self._send(socket_, item)
            else:
                self._wake()

    def _send(self, socket_: zmq.Socket[bytes], item: Result | Note) -> None:
        if isinstance(item, Result):
            item.stamps.encoded = now_ns()
            message = result_message(item, self._run_id, wall_us())
            header = wire.encode(message)
            socket_.send_multipart((wire.topic(message.stream, "results"), header))
            if self._on_sent is not None:
                self._on_sent(item.frame, header)
            times = self._times_of(message.stream)
            if times is not None:
                times.add(item.stamps)
            return
        topic = topic_of(item)
        socket_.send_multipart((topic, wire.encode(item)))
        self._last.keep(topic, item)

    def _greet(self, socket_: zmq.Socket[bytes]) -> None:
        """Send the last values to whoever has just subscribed. All subscribers of the topic get them."""
        for _ in range(_GREETED):
            try:
                request = socket_.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if request[:1] == b"\x01":
                for topic, message in self._last.matching(request[1:]):
                    socket_.send_multipart((topic, message))


def topic_of(note: Note) -> bytes:
    """The topic that a note goes out on."""
    if isinstance(note, wire.StatusMessage):
        return wire.topic("_daemon", "status")
    return wire.topic(note.stream if isinstance(note.stream, str) else "_daemon", "events")
