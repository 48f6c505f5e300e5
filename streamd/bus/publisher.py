"""The publisher thread: takes results and notes from the outbox and sends them over one XPUB socket."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import zmq

from streamd.bus import wire
from streamd.bus.admission import Admission, Door
from streamd.bus.messages import result_message
from streamd.core.errors import OutputError
from streamd.core.timing import StageTimes, now_ns, wall_us
from streamd.pipeline.outbox import Outbox, Result

Note = wire.EventMessage | wire.StatusMessage
_SEND_QUEUE = 1000  # messages a subscriber may lag before it loses some (countable by `seq`)
_LINGER_MS = 300  # what is sent but not yet written may hold the exit this long
_POLL_MS = 1000
_LONGEST_REQUEST = 1 << 16  # bytes; without a bound a stranger's one message could take all memory
_GREETED = 100  # subscriptions in a turn: whoever asks without end must not keep results from the others


class Wake:
    """Lets other threads end the publisher's poll: a pair of connected sockets, never blocking."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __call__(self) -> None:
        try:
            self._writer.send(b"w")
        except BlockingIOError:
            pass  # enough wake-ups are waiting already
        except OSError:
            pass  # closed: the publisher has ended

    def fileno(self) -> int:
        return self._reader.fileno()

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class LastValues:
    """The last event of each stream and the last status, sent again to a new subscriber, marked `replay`."""

    def __init__(self) -> None:
        self._notes: dict[bytes, Note] = {}

    def keep(self, topic: bytes, note: Note) -> None:
        """Remember a note; `removed` clears its stream's, and `reset` says nothing of how things stand."""
        if isinstance(note, wire.EventMessage) and note.event == "removed":
            self._notes.pop(topic, None)
        elif isinstance(note, wire.EventMessage) and note.event == "reset":
            pass
        else:
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
    ) -> None:
        """admission: encrypts the bus, and says who may read; None: everybody who can connect."""
        self._group = group
        self._admission = admission
        self._outbox = outbox
        self._wake = wake
        self._run_id = run_id
        self._times_of = times_of
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
        context = zmq.Context()
        door = None if self._admission is None else Door(context, self._admission)
        try:
            while not self._publish(context, door):
                pass
        finally:
            if door is not None:
                door.close()
            context.term()
            self._wake.close()
            self._unlink()

    def _publish(self, context: zmq.Context[zmq.Socket[bytes]], door: Door | None) -> bool:
        """With one socket; False when it had to be given up and the next one goes on."""
        with context.socket(zmq.XPUB) as socket_:
            socket_.setsockopt(zmq.XPUB_VERBOSE, 1)  # tells of each subscription, also of one it has already
            socket_.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
            socket_.setsockopt(zmq.LINGER, _LINGER_MS)
            socket_.setsockopt(zmq.MAXMSGSIZE, _LONGEST_REQUEST)
            if self.endpoint.startswith("tcp://["):
                socket_.setsockopt(zmq.IPV6, 1)
            if door is not None:
                door.guard(socket_)
            self._open(socket_)
            self.bound.set()
            ended = self._serve(socket_, door)
            if door is not None and not ended:
                door.clear(socket_, self.endpoint)
            return ended

    def _open(self, socket_: zmq.Socket[bytes]) -> None:
        path = _ipc_path(self.endpoint)
        if path is not None:
            _refuse_live_socket(path, self.endpoint)
        # The mode is set after the bind: until then nobody but this user may connect.
        mask = os.umask(0o177) if path is not None else None
        try:
            socket_.bind(self.endpoint)
        except zmq.ZMQError as error:
            raise OutputError(_bind_failure(self.endpoint, error)) from error
        finally:
            if mask is not None:
                os.umask(mask)
        if path is not None:
            _open_to_group(path, self._group)
        self.endpoint = socket_.getsockopt_string(zmq.LAST_ENDPOINT)

    def _serve(self, socket_: zmq.Socket[bytes], door: Door | None) -> bool:
        """Until the outbox is closed and empty; False as soon as the socket holds somebody who may not read."""
        poller = zmq.Poller()
        if door is not None:
            door.register(poller)
        poller.register(socket_, zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        items: list[Result | Note] | None = []
        while True:
            # The outbox may have been closed while its last items were taken, and that wake-up is spent:
            # after anything was sent it is looked at again at once.
            ready = dict(poller.poll(0 if items else _POLL_MS))
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
            items = self._outbox.take(0)
            if items is None:
                return True
            for item in items:
                self._send(socket_, item)

    def _send(self, socket_: zmq.Socket[bytes], item: Result | Note) -> None:
        if isinstance(item, Result):
            item.stamps.encoded = now_ns()
            message = result_message(item, self._run_id, wall_us())
            socket_.send_multipart((wire.topic(message.stream, "results"), wire.encode(message)))
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

    def _unlink(self) -> None:
        path = _ipc_path(self.endpoint)
        if path is not None and self.bound.is_set():
            path.unlink(missing_ok=True)


def topic_of(note: Note) -> bytes:
    """The topic that a note goes out on."""
    if isinstance(note, wire.StatusMessage):
        return wire.topic("_daemon", "status")
    return wire.topic(note.stream if isinstance(note.stream, str) else "_daemon", "events")


def _ipc_path(endpoint: str) -> Path | None:
    return Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None


def _refuse_live_socket(path: Path, endpoint: str) -> None:
    """ZeroMQ silently takes over a socket file; another daemon that listens there must keep it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing there; a folder that may not be entered is told of by the bind
    if not stat.S_ISSOCK(mode):
        raise OutputError(
            f"publish.bind: {endpoint}: the file is there and is no socket; choose another path"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return  # nobody listens: a leftover
    raise OutputError(f"publish.bind: {endpoint} is in use; stop the other process or choose another path")


def _open_to_group(path: Path, group: str | None) -> None:
    try:
        if group is not None:
            shutil.chown(path, group=group)
        path.chmod(0o660)
    except (OSError, LookupError) as error:
        raise OutputError(f"publish.group: cannot give {path} to the group {group}: {error}") from error


def _bind_failure(endpoint: str, error: zmq.ZMQError) -> str:
    what = {
        errno.EADDRINUSE: "is in use; stop the other process or choose another port",
        errno.EADDRNOTAVAIL: "is no address of this machine; use one of its own, or tcp://127.0.0.1:PORT",
        errno.ENODEV: "is no address of this machine; use one of its own, or tcp://127.0.0.1:PORT",
        errno.EACCES: "may not be bound by this user; choose a port above 1023 or another folder",
        errno.ENOENT: "has no folder; make it first",
        errno.ENAMETOOLONG: "is too long for a socket; choose a shorter path",
    }.get(error.errno or 0, f"cannot be bound: {error.strerror}")
    return f"publish.bind: {endpoint} {what}"
