"""Who may read an encrypted bus: a list of clients' keys that can be exchanged, and the door of a socket.

ZeroMQ asks (ZAP, RFC 27) at the end of each handshake; the answers are given in the thread that owns the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from streamd.bus.keys import KeyPair, Keyring
from streamd.core.timing import NS_PER_S, Deadline, now_ns

_DOMAIN = "streamd"
_ANSWERED = 100  # handshakes in a turn: whoever knocks without end must not keep results from the others
_WATCHED = 1000  # failed ones in a turn, which cost less
_HANDSHAKE_MS = 10_000
_CLOSED_S = 2.0
_NAMED = 3  # visitors that one report names
_KEPT = 64  # visitors told apart between two reports
_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 60.0
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_STRANGER = "a connection that ended before it was encrypted: without CURVE, or with another server key"


class Admission:
    """The server's keys and the list. Any thread may exchange the list; each `Door` asks it.

    `report` gets one line about clients that were refused, in the thread of the door; it must not block.
    """

    def __init__(self, keyring: Keyring, report: Callable[[str], None]) -> None:
        self.server: KeyPair = keyring.server
        self.report = report
        self.clients: Mapping[bytes, str] = {}
        """Public key (32 bytes) to name; exchanged whole, never changed."""
        self.allow(keyring.clients)

    def allow(self, clients: Mapping[str, str]) -> None:
        """From now on these (public half in Z85 to name) and no others may connect."""
        self.clients = {z85.decode(key): name for key, name in clients.items()}


class Refusals:
    """Collects who was refused: told of at once, then in sum, after 10 s, 20 s, ... at most once a minute."""

    def __init__(self) -> None:
        self._who: dict[str, int] = {}
        self._others = 0
        self._told_ns = 0
        self._wait_s = 0.0

    def add(self, who: str) -> None:
        """One more."""
        if who in self._who or len(self._who) < _KEPT:
            self._who[who] = self._who.get(who, 0) + 1
        else:
            self._others += 1

    def due(self, now: int, *, last: bool = False) -> str | None:
        """What there is to tell, when it is time for it; `last`: whatever there is."""
        quiet_s = (now - self._told_ns) / NS_PER_S
        if not last and quiet_s < self._wait_s:
            return None
        if not self._who:
            # Nobody came for a whole wait: the next one is told of at once again.
            self._wait_s = 0.0
            return None
        self._wait_s = min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S, 2 * self._wait_s))
        self._told_ns = now
        most = sorted(self._who.items(), key=lambda item: -item[1])
        parts = [who if count == 1 else f"{who} ({count} times)" for who, count in most[:_NAMED]]
        rest = sum(count for _, count in most[_NAMED:]) + self._others
        if rest:
            parts.append(f"and {rest} more connections")
        self._who, self._others = {}, 0
        return "; ".join(parts)


class Door:
    """Lets listed clients into one socket. Made, used and closed by the thread that owns the socket.

    Make it before the socket is bound: ZeroMQ then never finds nobody to ask, and without an answer it refuses.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admission: Admission) -> None:
        self._context = context
        self._admission = admission
        self._refusals = Refusals()
        self._sockets = 0
        self._inside: set[bytes] = set()
        self._compared: Mapping[bytes, str] = admission.clients
        self._events: zmq.Socket[bytes] | None = None
        self._questions = context.socket(zmq.REP)
        self._questions.setsockopt(zmq.LINGER, 0)
        self._questions.bind("inproc://zeromq.zap.01")

    def guard(self, socket_: zmq.Socket[bytes]) -> None:
        """Encrypt a socket that is not bound yet, and watch over its handshakes."""
        socket_.setsockopt(zmq.CURVE_SERVER, 1)
        socket_.setsockopt_string(zmq.CURVE_PUBLICKEY, self._admission.server.public)
        socket_.setsockopt_string(zmq.CURVE_SECRETKEY, self._admission.server.secret)
        socket_.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        # Without it a server that has nobody to ask lets everybody in.
        socket_.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket_.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        # Another name for each socket: the one before may not be gone yet.
        self._sockets += 1
        address = f"inproc://handshakes-{self._sockets}"
        socket_.monitor(address, _FAILED | zmq.EVENT_CLOSED)
        self._events = self._context.socket(zmq.PAIR)
        self._events.setsockopt(zmq.LINGER, 0)
        # ZeroMQ's own thread would stand still when this was full.
        self._events.setsockopt(zmq.RCVHWM, 0)
        self._events.connect(address)
        self._inside.clear()

    def register(self, poller: zmq.Poller) -> None:
        """Wake this poller when somebody knocks."""
        poller.register(self._questions, zmq.POLLIN)
        if self._events is not None:
            poller.register(self._events, zmq.POLLIN)

    def attend(self) -> None:
        """Answer whoever knocks, and tell of those who were refused. Never blocks."""
        for _ in range(_ANSWERED):
            try:
                question = self._questions.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._questions.send_multipart(self._answer(question))
        self._watch(None)
        told = self._refusals.due(now_ns())
        if told is not None:
            self._admission.report(told)

    def holds_a_stranger(self) -> bool:
        """Whether somebody who was let in has been taken off the list since."""
        clients = self._admission.clients
        if clients is self._compared:
            return False
        self._compared = clients
        return not self._inside <= clients.keys()

    def clear(self, socket_: zmq.Socket[bytes], endpoint: str) -> None:
        """Take the socket off its endpoint, so that another one can be bound there; blocks at most 2 s."""
        socket_.unbind(endpoint)
        # ZeroMQ closes it in its own thread, and removes an ipc socket's file then.
        self._watch(Deadline(_CLOSED_S))
        socket_.disable_monitor()
        self._close_events()

    def close(self) -> None:
        """Tell of the last who were refused, and close; after the socket."""
        told = self._refusals.due(now_ns(), last=True)
        if told is not None:
            self._admission.report(told)
        self._close_events()
        self._questions.close(0)

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close(0)
            self._events = None

    def _answer(self, question: list[bytes]) -> list[bytes]:
        # version, request id, domain, address, routing id, mechanism, credentials
        version, number, _, address, _, mechanism, *credentials = (*question, *[b""] * 7)[:7]
        key = credentials[0] if credentials else b""
        name = self._admission.clients.get(key) if mechanism == b"CURVE" else None
        if name is not None:
            self._inside.add(key)
            return [version, number, b"200", b"OK", name.encode("ascii", "replace"), b""]
        shown = z85.encode(key).decode()[:8] if len(key) == 32 else "?"
        self._refusals.add(f"{_visitor(address)} with the key {shown}..., which is not listed")
        return [version, number, b"400", b"not listed", b"", b""]

    def _watch(self, closed_by: Deadline | None) -> None:
        """Read what became of handshakes; with a deadline, until the endpoint is closed."""
        events = self._events
        for _ in range(_WATCHED):
            wait_ms = int(closed_by.left_s() * 1000) if closed_by else 0
            if events is None or not events.poll(wait_ms):
                return
            event = parse_monitor_message(events.recv_multipart())["event"]
            if event & _FAILED:
                self._refusals.add(_STRANGER)
            elif closed_by is not None:
                return


def _visitor(address: bytes) -> str:
    """An IP address; of an ipc socket the process, which ZeroMQ gives as localhost:USER:GROUP:PROCESS."""
    text = address.decode("ascii", "replace")
    parts = text.split(":")
    if parts[0] == "localhost" and len(parts) == 4:
        return f"process {parts[3]} of user {parts[1]}"
    return text or "this machine"
