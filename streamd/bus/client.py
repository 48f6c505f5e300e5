"""Reading a daemon's results in another process."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import msgspec
import zmq

from streamd.bus import wire
from streamd.core.errors import StreamdError, UsageError
from streamd.core.text import printable
from streamd.core.timing import Deadline

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5560"
_decode_result = msgspec.json.Decoder(wire.ResultMessage).decode


class Messages:
    """An iterator of (topic, header as JSON bytes) of all that a daemon sends, or of one stream.

    Waits for a daemon that is not there, and goes on after it was restarted. One thread at a time.
    """

    def __init__(self, endpoint: str, prefix: bytes, timeout_s: float | None = None) -> None:
        self._timeout_s = timeout_s
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        # A daemon that vanished without a goodbye (power, network) is noticed and connected to again.
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        if endpoint.startswith("tcp://["):
            self._socket.setsockopt(zmq.IPV6, 1)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(f"{endpoint} is no endpoint; write tcp://HOST:PORT or ipc://PATH") from error
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self

    def __next__(self) -> tuple[str, bytes]:
        """The next message; blocks. Raises TimeoutError after `timeout_s` without one."""
        return self.within(self._timeout_s)

    def within(self, timeout_s: float | None) -> tuple[str, bytes]:
        """The next message; raises TimeoutError after `timeout_s` without one (None: waits for ever)."""
        if not self._socket.poll(None if timeout_s is None else int(timeout_s * 1000)):
            raise TimeoutError(f"no message within {timeout_s:g} s")
        return self._receive()

    def ready(self) -> bool:
        """Whether a message has arrived already."""
        return bool(self._socket.poll(0))

    def _receive(self) -> tuple[str, bytes]:
        topic, body, *_ = (*self._socket.recv_multipart(), b"")
        return topic.decode(errors="replace"), body

    def close(self) -> None:
        """Disconnect. Iterating afterwards raises ZMQError."""
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
        self, endpoint: str, stream: str | None, *, latest: bool = False, timeout_s: float | None = None
    ) -> None:
        self.gaps = 0
        self._latest = latest
        self._expected: dict[tuple[str, str, int], int] = {}
        prefix = wire.topic(stream, "results") if stream else b"streamd/"
        self._timeout_s = timeout_s
        self._messages = Messages(endpoint, prefix)

    def __iter__(self) -> Iterator[wire.ResultMessage]:
        return self

    def __next__(self) -> wire.ResultMessage:
        """The next result; blocks. Raises TimeoutError after `timeout_s` without one."""
        # Not the wait for one message: a daemon's events and status are no results.
        deadline = None if self._timeout_s is None else Deadline(self._timeout_s)
        while True:
            try:
                result = self._take(deadline.left_s() if deadline else None)
            except TimeoutError:
                raise TimeoutError(f"no result within {self._timeout_s:g} s") from None
            while self._latest and self._messages.ready():
                result = self._take(None) or result
            if result is not None:
                return result

    def _take(self, timeout_s: float | None) -> wire.ResultMessage | None:
        topic, body = self._messages.within(timeout_s)
        if not topic.endswith("/results"):
            return None
        result = decode(body)
        self._count(result)
        return result

    def _count(self, result: wire.ResultMessage) -> None:
        key = (result.run, result.stream, result.epoch)
        expected = self._expected.get(key)
        if expected is None:
            # The first of this run and epoch: forget the runs before, or a year of restarts would add up.
            for old in [other for other in self._expected if other[1] == result.stream]:
                del self._expected[old]
        elif result.seq > expected:
            self.gaps += result.seq - expected
        self._expected[key] = result.seq + 1

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
) -> Subscription:
    """Read the results of a daemon, of all streams or of one.

    Waits for a daemon that is not there yet and goes on after it was restarted. With `latest` each step gives
    the newest result that has arrived and skips the older ones (counted in neither `gaps` nor anywhere else):
    for readers slower than the cameras that want to be current. `timeout_s`: see `Subscription.__next__`.
    """
    return Subscription(endpoint, stream, latest=latest, timeout_s=timeout_s)


def messages(
    endpoint: str = DEFAULT_ENDPOINT, *, stream: str | None = None, timeout_s: float | None = None
) -> Messages:
    """Read everything that a daemon sends, or all of one stream, as it is on the wire."""
    return Messages(endpoint, f"streamd/{stream}/".encode() if stream else b"streamd/", timeout_s)
