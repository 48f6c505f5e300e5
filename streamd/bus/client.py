"""Reading a daemon's results in another process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from streamd.bus import wire
from streamd.bus.gaps import Gaps
from streamd.bus.keys import KeyPair, read_pair, read_public
from streamd.bus.versions import advice, newer_schema
from streamd.core.errors import StreamdError, UsageError
from streamd.core.text import printable
from streamd.core.timing import Deadline

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5560"
_decode_result = msgspec.json.Decoder(wire.ResultMessage).decode


_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 2,
}
_OTHER_MECHANISM = 0x11000002  # libzmq's ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH


@dataclass(frozen=True, slots=True)
class Login:
    """What a client of an encrypted bus shows and expects."""

    own: KeyPair
    server: str
    """The daemon's public half."""
    name: str
    """The client's key file, without its ending."""


def read_login(keys: str | Path | None, server_key: str | Path | None) -> Login | None:
    """From the client's `*.key_secret` and a copy of the daemon's `server.key`; None when there is neither.

    Raises KeysError for files that cannot be used, UsageError when one of the two is not named.
    """
    if keys is None and server_key is None:
        return None
    if keys is None or server_key is None:
        raise UsageError("an encrypted bus needs both: the client's own keys, and the daemon's server.key")
    login = Login(read_pair(Path(keys)), read_public(Path(server_key)), Path(keys).stem)
    if login.own.public == login.server:
        raise UsageError(f"{server_key}: is the client's own key; name a copy of the daemon's server.key")
    return login


class Messages:
    """An iterator of (topic, header as JSON bytes) of all that a daemon sends, or of one stream.

    Waits for a daemon that is not there, and goes on after it was restarted. One thread at a time.
    """

    def __init__(
        self,
        endpoint: str,
        prefix: bytes,
        timeout_s: float | None = None,
        login: Login | None = None,
        *,
        queue: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._login = login
        self._cut_off = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        # A daemon that vanished without a goodbye (power, network) is noticed after 15 s and connected to again.
        # By the kernel: ZeroMQ's heartbeats are not read while a reader's queue is full, and once it reads on
        # libzmq aborts the process (assertion `_input_stopped`, in 4.3.5 still).
        for option, value in _KEEPALIVE.items():
            self._socket.setsockopt(option, value)
        if queue is not None:
            self._socket.setsockopt(zmq.RCVHWM, queue)
        if endpoint.startswith("tcp://["):
            self._socket.setsockopt(zmq.IPV6, 1)
        if login is not None:
            self._socket.setsockopt_string(zmq.CURVE_PUBLICKEY, login.own.public)
            self._socket.setsockopt_string(zmq.CURVE_SECRETKEY, login.own.secret)
            self._socket.setsockopt_string(zmq.CURVE_SERVERKEY, login.server)
        self._socket.monitor("inproc://handshakes", _HANDSHAKES)
        self._events = self._context.socket(zmq.PAIR)
        # ZeroMQ's own thread would stand still when this was full.
        self._events.setsockopt(zmq.RCVHWM, 0)
        self._events.connect("inproc://handshakes")
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(f"{endpoint} is no endpoint; write tcp://HOST:PORT or ipc://PATH") from error
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._events, zmq.POLLIN)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self

    def __next__(self) -> tuple[str, bytes]:
        """The next message; blocks. Raises as `within`, with the time-out that was given at first."""
        return self.within(self._timeout_s)

    def within(self, timeout_s: float | None) -> tuple[str, bytes]:
        """The next message. Raises TimeoutError after `timeout_s` without one (None: waits for ever).

        Raises StreamdError when the daemon refuses this client: ZeroMQ does not try again then.
        """
        topic, body, *_ = (*self.parts_within(timeout_s), b"")
        return topic.decode(errors="replace"), body

    def parts_within(self, timeout_s: float | None) -> list[bytes]:
        """As `within`: all parts of the message as they came, the topic first."""
        deadline = None if timeout_s is None else Deadline(timeout_s)
        while True:
            ready = dict(self._poller.poll(int(deadline.left_s() * 1000) if deadline else None))
            if self._socket in ready:
                return self._socket.recv_multipart()
            if not ready:
                raise TimeoutError(f"no message within {timeout_s:g} s{self.hint}")
            self._watch()

    @property
    def hint(self) -> str:
        """What may be wrong, as the end of a message; empty when nothing is known."""
        if not self._cut_off:
            return ""
        if self._login is None:
            return "; something there ends every connection: is the bus encrypted? Then it needs keys"
        return "; something there ends every connection: is this server.key the daemon's?"

    def _watch(self) -> None:
        """What became of the last handshake."""
        event = parse_monitor_message(self._events.recv_multipart())
        kind, code = event["event"], event["value"]
        self._cut_off = kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH and self._login is not None:
            raise StreamdError(
                f"{self.endpoint}: the daemon refused the key of {self._login.name}; put its public half into the "
                "daemon's folder clients/, let it reload, and connect again"
            )
        if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and code == _OTHER_MECHANISM:
            raise StreamdError(
                f"{self.endpoint}: the bus is encrypted; name this client's keys and the daemon's server.key"
                if self._login is None
                else f"{self.endpoint}: the bus is not encrypted; leave the keys out, or set publish.curve"
            )

    def ready(self) -> bool:
        """Whether a message has arrived already."""
        return bool(self._socket.poll(0))

    def close(self) -> None:
        """Disconnect. Iterating afterwards raises ZMQError."""
        self._socket.disable_monitor()
        self._events.close(0)
        self._socket.close(0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Subscription:
    """An iterator of `ResultMessage`, made by `subscribe`; close it, or use it in a `with`.

    `gaps` counts the results that this subscriber did not get: holes in a stream's `seq`. A daemon that was
    started again, or a stream that was added again, begins a new count and is no gap. One thread at a time.
    """

    def __init__(
        self,
        endpoint: str,
        stream: str | None,
        *,
        latest: bool = False,
        timeout_s: float | None = None,
        login: Login | None = None,
    ) -> None:
        self.gaps = 0
        self._latest = latest
        self._seen = Gaps()
        prefix = wire.topic(stream, "results") if stream else b"streamd/"
        self._timeout_s = timeout_s
        self._messages = Messages(endpoint, prefix, login=login)

    def __iter__(self) -> Iterator[wire.ResultMessage]:
        return self

    def __next__(self) -> wire.ResultMessage:
        """The next result; blocks. Raises TimeoutError after `timeout_s` without one, StreamdError when refused."""
        # Not the wait for one message: a daemon's events and status are no results.
        deadline = None if self._timeout_s is None else Deadline(self._timeout_s)
        while True:
            try:
                result = self._take(deadline.left_s() if deadline else None)
            except TimeoutError:
                raise TimeoutError(f"no result within {self._timeout_s:g} s{self._messages.hint}") from None
            while self._latest and self._messages.ready():
                result = self._take(None) or result
            if result is not None:
                return result

    def _take(self, timeout_s: float | None) -> wire.ResultMessage | None:
        topic, body = self._messages.within(timeout_s)
        if not topic.endswith("/results"):
            return None
        result = decode(body)
        self.gaps += self._seen.before(result.run, result.stream, result.epoch, result.seq)
        return result

    def close(self) -> None:
        """Disconnect. Iterating afterwards raises ZMQError."""
        self._messages.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def decode(body: bytes) -> wire.ResultMessage:
    """A result from a message's second part. Raises StreamdError when it is none, or of a newer version."""
    try:
        return _decode_result(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        schema = newer_schema(body)
        if schema is not None:
            raise StreamdError(advice(schema)) from error
        raise StreamdError(
            f"not a streamd.result/1 message ({printable(str(error))[:200]}); update streamd on this side, or check"
            " the endpoint"
        ) from error


def subscribe(
    endpoint: str = DEFAULT_ENDPOINT,
    *,
    stream: str | None = None,
    latest: bool = False,
    timeout_s: float | None = None,
    keys: str | Path | None = None,
    server_key: str | Path | None = None,
) -> Subscription:
    """Read the results of a daemon, of all streams or of one.

    Waits for a daemon that is not there yet and goes on after it was restarted. With `latest` each step gives
    the newest result that has arrived and skips the older ones (counted in neither `gaps` nor anywhere else):
    for readers slower than the cameras that want to be current. `timeout_s`: see `Subscription.__next__`.
    `keys` and `server_key`, for an encrypted bus: this client's `NAME.key_secret`, a copy of the daemon's
    `server.key`. Raises StreamdError for files that cannot be used.
    """
    login = read_login(keys, server_key)
    return Subscription(endpoint, stream, latest=latest, timeout_s=timeout_s, login=login)


def messages(
    endpoint: str = DEFAULT_ENDPOINT,
    *,
    stream: str | None = None,
    timeout_s: float | None = None,
    keys: str | Path | None = None,
    server_key: str | Path | None = None,
) -> Messages:
    """Read everything that a daemon sends, or all of one stream, as it is on the wire; keys as in `subscribe`."""
    prefix = f"streamd/{stream}/".encode() if stream else b"streamd/"
    return Messages(endpoint, prefix, timeout_s, read_login(keys, server_key))
