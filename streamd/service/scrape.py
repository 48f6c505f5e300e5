"""What a running daemon's metrics endpoint says that its bus does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from streamd.core.errors import StreamdError, UsageError
from streamd.core.text import printable
from streamd.core.timing import Deadline

_ANSWER_S = 2.0
_LONGEST_ANSWER = 1 << 23
_EVERY_S = 1.0
_COUNTERS = ("streamd_reconnects_total", "streamd_packets_lost_total")


class PageStream(msgspec.Struct):
    """A stream on the page /streams; what is not read here is left out."""

    since_s: Annotated[float, msgspec.Meta(ge=0, lt=1e12)] | msgspec.UnsetType = msgspec.UNSET
    dropped: dict[str, Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]] = {}


_decode_streams = msgspec.json.Decoder(dict[str, PageStream]).decode


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of the endpoint."""

    streams: Mapping[str, PageStream] = field(default_factory=dict)
    reconnects: Mapping[str, int] = field(default_factory=dict)
    """By stream: attempts that ended, for whatever reason."""
    packets_lost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Address:
    """HOST:PORT of a metrics endpoint."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """`HOST:PORT`, also with `http://` in front. Raises UsageError."""
    rest = text.removeprefix("http://").rstrip("/")
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise UsageError(f"--metrics {text}: write HOST:PORT, as in the daemon's metrics.listen")
    return Address(host, int(port))


def scrape(at: Address) -> Scrape:
    """Ask once; blocks for 2 s a page at most, and for the name server. Raises StreamdError."""
    try:
        streams = _decode_streams(_page(at, "/streams"))
        metrics = _page(at, "/metrics").decode()
        reconnects, lost = (_sums(metrics, name) for name in _COUNTERS)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise StreamdError(f"{at} is no metrics endpoint of streamd") from error
    return Scrape(streams, reconnects, lost)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of asking: an answer, or why there is none."""

    address: str = ""
    answer: Scrape | None = None
    problem: str = "no --metrics named"


class Source:
    """A daemon's metrics endpoint, if it has one (`at`). Any thread may call `latest`."""

    def __init__(self, at: Address | None) -> None:
        self._at = at
        self._lock = threading.Lock()  # guards the field below
        self._latest = Reading() if at is None else Reading(str(at), None, f"{at} has not answered so far")

    def ask(self) -> None:
        """Ask once; blocks as `scrape` does."""
        if self._at is None:
            return
        try:
            reading = Reading(str(self._at), scrape(self._at), "")
        except StreamdError as error:
            reading = Reading(str(self._at), None, str(error))
        with self._lock:
            self._latest = reading

    def run(self, stop: threading.Event) -> None:
        """Ask each second until `stop` is set; the body of a thread."""
        while self._at is not None:
            self.ask()
            if stop.wait(_EVERY_S):
                return

    def latest(self) -> Reading:
        """The last answer."""
        with self._lock:
            return self._latest


def _page(at: Address, path: str) -> bytes:
    """The body. One deadline over all of it, which http.client and urllib do not have; nor is a proxy asked."""
    deadline = Deadline(_ANSWER_S)
    answer = bytearray()
    try:
        with socket.create_connection((at.host, at.port), timeout=_ANSWER_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n".encode())
            while part := connection.recv(1 << 16):
                answer += part
                if len(answer) > _LONGEST_ANSWER:
                    raise StreamdError(f"{at} is no metrics endpoint of streamd: its answer does not end")
                connection.settimeout(max(deadline.left_s(), 0.001))
    except (OSError, UnicodeError) as error:
        why = printable(getattr(error, "strerror", None) or str(error))
        raise StreamdError(f"{at} does not answer: {why.lower()}") from error
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise StreamdError(f"{at} is no metrics endpoint of streamd")
    return body


def _sums(page: str, counter: str) -> dict[str, int]:
    """A counter of the page, summed by its label `stream`."""
    from prometheus_client.parser import text_string_to_metric_families

    # Most of a page are histograms, whose reading would cost many times as much.
    lines = "\n".join(line for line in page.splitlines() if line.startswith(counter))
    sums: dict[str, int] = {}
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            stream = sample.labels.get("stream", "")
            sums[stream] = sums.get(stream, 0) + int(sample.value)
    return sums
