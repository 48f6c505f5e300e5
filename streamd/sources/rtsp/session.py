"""The conversation with one RTSP server: description, set-up, play, keep-alive, farewell (RFC 2326)."""

from __future__ import annotations

import re
import threading
import time
from importlib.metadata import version
from typing import NamedTuple

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import shown
from streamd.sources.advice import ADVICE, silence
from streamd.sources.libav.planes import Arrival
from streamd.sources.rtsp.authentication import Authenticator, LoginError
from streamd.sources.rtsp.connection import SLICE_S, Connection, StoppedError
from streamd.sources.rtsp.datagrams import Datagrams
from streamd.sources.rtsp.description import Description, Track, read
from streamd.sources.rtsp.messages import (
    Framer,
    ProtocolError,
    Response,
    ServerRequest,
    answer_bytes,
    quotable,
    request_bytes,
)
from streamd.sources.rtsp.target import Target, joined
from streamd.sources.source import SourceRequest

_SESSION_S = 60.0
"""How long a session lives without a sign of us, when the server does not say (RFC 2326, 12.37)."""

_LEAST_KEEP_ALIVE_S = 1.0
_MOST_LOGINS = 3
_TRANSPORT_REFUSED = 461


class Media(NamedTuple):
    """Packets that came together."""

    arrival: Arrival
    rtp: list[bytes]
    rtcp: list[bytes]


class RedirectError(Exception):
    """The server says that the stream is elsewhere."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class TransportRefusedError(Exception):
    """The server does not send over this transport."""


class Session:
    """One connection and what was agreed on over it. Used and closed by one thread.

    Every method that asks the server blocks at most `timeout_s` per answer and raises SourceError (auth, not_found,
    timeout, eof, error), RedirectError, or StoppedError when the stop flag is set.
    """

    def __init__(self, target: Target, request: SourceRequest, stop: threading.Event) -> None:
        self._request = request
        self._stop = stop
        self._url = self._base = target.url
        self._login = Authenticator(target.username, target.password)
        self._framer = Framer()
        self._sequence = 0
        self._answered = -1
        """The last number that came back as it was sent."""
        self._session: str | None = None
        self._session_s = _SESSION_S
        self._methods: set[str] = set()
        self.keep_alive_ns = 0
        self._pending: tuple[int, str] | None = None  # CSeq and method of an unanswered keep-alive
        self._datagrams: Datagrams | None = None
        self._rtp_channel = 0
        self.ended: str | None = None
        """Why the server ends the stream, once it said so."""
        self._connection = Connection(target, request, stop)

    def describe(self) -> Description:
        """What the server offers under the address."""
        options = self._ask("OPTIONS", self._url)
        if options.status == 200:
            self._methods = {
                word.strip().upper() for word in (options.headers.get("public") or "").split(",")
            }
        answer = self._succeed("DESCRIBE", self._url, {"Accept": "application/sdp"})
        base = answer.headers.get("content-base") or answer.headers.get("content-location") or ""
        self._base = (
            base if re.match(r"rtsps?://", base, re.I) else joined(self._url, base) if base else self._url
        )
        description = read(answer.body)
        if not description.tracks:
            raise self._error(Reason.CODEC, "its description of the stream cannot be read")
        self._aggregate = joined(self._base, description.control)
        return description

    def set_up(self, track: Track, udp: bool) -> None:
        """Agree on how the track comes. Raises TransportRefusedError as well."""
        if udp:
            try:
                self._datagrams = Datagrams(
                    self._connection.family, self._connection.local, self._connection.peer
                )
            except OSError as error:
                raise self._error(
                    Reason.ERROR, "no two UDP ports can be opened; set transport: tcp"
                ) from error
            first = self._datagrams.port
            asked = f"RTP/AVP;unicast;client_port={first}-{first + 1}"
        else:
            asked = "RTP/AVP/TCP;unicast;interleaved=0-1"
        url = joined(self._base, track.control)
        answer = self._ask("SETUP", url, {"Transport": asked})
        if answer.status == _TRANSPORT_REFUSED:
            raise TransportRefusedError
        self._check(answer, "SETUP")
        self._keep_session(answer)
        granted = answer.headers.get("transport") or ""
        if self._datagrams is not None:
            if "tcp" in granted.lower():
                raise TransportRefusedError
            self._accept_udp(self._datagrams, granted)
        else:
            channels = re.search(r"interleaved\s*=\s*(\d{1,3})", granted, re.I)
            self._rtp_channel = int(channels[1]) & 0xFF if channels else 0
            self._framer.expect(self._rtp_channel)

    def play(self) -> None:
        """Let the packets come."""
        self._succeed("PLAY", self._aggregate, {"Range": "npt=0.000-"})

    def media(self, wait_s: float) -> Media:
        """Packets that have come; none when nothing came within `wait_s` seconds.

        Answers and requests of the server are dealt with on the way.
        """
        framer = self._framer
        # Packets that came along with an answer go first: the connection may have ended after them.
        data = b"" if framer.rtp else self._connection.receive(wait_s)
        arrival = Arrival.now()
        if data:
            try:
                for message in framer.feed(data):
                    self._deal_with(message)
            except ProtocolError as error:
                raise self._error(Reason.CORRUPT, str(error)) from error
        media = Media(arrival, framer.rtp, framer.rtcp)
        framer.rtp, framer.rtcp = [], []
        if self._datagrams is not None:
            self._datagrams.receive(media.rtp, media.rtcp)
        return media

    def keep_alive(self) -> None:
        """Give the server a sign, which is due at `keep_alive_ns`; its answer comes among the media."""
        method = "GET_PARAMETER" if "GET_PARAMETER" in self._methods else "OPTIONS"
        self._pending = (self._write(method, self._aggregate, {}), method)

    def report(self, data: bytes) -> None:
        """Send an RTCP packet."""
        if self._datagrams is not None:
            self._datagrams.report(data)
        else:
            head = bytes([0x24, self._rtp_channel + 1 & 0xFF]) + len(data).to_bytes(2)
            self._connection.send(head + data)

    def close(self) -> None:
        """Say good-bye without waiting for an answer, and close."""
        farewell = b""
        if self._session is not None:
            self._sequence += 1
            farewell = request_bytes("TEARDOWN", self._aggregate, self._fields("TEARDOWN", self._aggregate))
        self._connection.close(farewell)
        if self._datagrams is not None:
            self._datagrams.close()

    # -- asking ----------------------------------------------------------------------------------------

    def _succeed(self, method: str, url: str, fields: dict[str, str]) -> Response:
        answer = self._ask(method, url, fields)
        self._check(answer, method)
        return answer

    def _ask(self, method: str, url: str, fields: dict[str, str] | None = None) -> Response:
        """Ask until the answer is not about the login."""
        for _ in range(_MOST_LOGINS):
            answer = self._answer(self._write(method, url, fields or {}), method)
            if answer.status != 401:
                return answer
            try:
                if not self._login.challenged(answer.headers.all("www-authenticate")):
                    break
            except LoginError as error:
                raise self._error(Reason.AUTH, str(error)) from error
        raise self._error(Reason.AUTH, ADVICE[Reason.AUTH])

    def _write(self, method: str, url: str, fields: dict[str, str]) -> int:
        self._sequence += 1
        self._connection.send(request_bytes(method, url, {**self._fields(method, url), **fields}))
        interval_s = max(self._session_s / 2, _LEAST_KEEP_ALIVE_S)
        self.keep_alive_ns = time.monotonic_ns() + int(interval_s * 1e9)
        return self._sequence

    def _fields(self, method: str, url: str) -> dict[str, str]:
        fields = {"CSeq": str(self._sequence), "User-Agent": f"streamd/{version('streamd')}"}
        login = self._login.header(method, url)
        if login is not None:
            fields["Authorization"] = login
        if self._session is not None:
            fields["Session"] = self._session
        return fields

    def _answer(self, sequence: int, method: str) -> Response:
        started = time.monotonic()
        found: Response | None = None
        while found is None:
            if self._stop.is_set():
                raise StoppedError
            elapsed_s = time.monotonic() - started
            if elapsed_s >= self._request.timeout_s:
                raise silence(self._request, elapsed_s, f"waiting for the answer to {method}")
            data = self._connection.receive(SLICE_S)
            try:
                for message in self._framer.feed(data):
                    if isinstance(message, Response):
                        # A server that answers with another number still answers: one is asked at a time.
                        # Only the number of an earlier answer tells a copy of that.
                        if found is None and (message.sequence is None or message.sequence > self._answered):
                            found = message
                    else:
                        self._deal_with(message)
            except ProtocolError as error:
                raise self._error(Reason.ERROR, f"{error}; check that the address speaks RTSP") from error
        if found.sequence == sequence:
            self._answered = sequence
        return found

    def _check(self, answer: Response, method: str) -> None:
        status = answer.status
        if 200 <= status < 300:
            return
        location = answer.headers.get("location")
        if 300 <= status < 400 and location:
            raise RedirectError(location)
        if status in (401, 403):
            raise self._error(Reason.AUTH, ADVICE[Reason.AUTH])
        if status == 404:
            raise self._error(Reason.NOT_FOUND, ADVICE[Reason.NOT_FOUND])
        hint = "; it may serve no more viewers" if status in (453, 503) else ""
        said = quotable(f"{status} {answer.reason}")
        raise self._error(Reason.ERROR, f"the server refuses {method}: {said}{hint}")

    def _keep_session(self, answer: Response) -> None:
        value = answer.headers.get("session")
        if value:
            self._session, _, rest = (part.strip() for part in value.partition(";"))
            seconds = re.search(r"timeout\s*=\s*(\d{1,6})", rest, re.I)
            self._session_s = float(seconds[1]) if seconds and int(seconds[1]) else _SESSION_S

    def _accept_udp(self, datagrams: Datagrams, granted: str) -> None:
        ports = re.search(r"server_port\s*=\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?", granted, re.I)
        source = re.search(r"source\s*=\s*([0-9A-Fa-f.:]+)", granted, re.I)
        pair = None
        if ports and 0 < int(ports[1]) < 65535:
            pair = (int(ports[1]), int(ports[2] or int(ports[1]) + 1) & 0xFFFF)
        datagrams.allow((source[1],) if source else (), pair)
        self._connection.watch(datagrams.rtp)
        self._connection.watch(datagrams.rtcp)

    # -- while it plays --------------------------------------------------------------------------------

    def _deal_with(self, message: Response | ServerRequest) -> None:
        if isinstance(message, Response):
            self._kept_alive(message)
            return
        known = message.method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE")
        ends = message.method in ("TEARDOWN", "REDIRECT")
        self._connection.send(answer_bytes(message, "200 OK" if known or ends else "501 Not Implemented"))
        if ends:
            self.ended = f"the server ended it with {message.method}"

    def _kept_alive(self, answer: Response) -> None:
        if self._pending is None or answer.sequence not in (None, self._pending[0]):
            return
        method, self._pending = self._pending[1], None
        if answer.status == 401:
            try:
                again = self._login.challenged(answer.headers.all("www-authenticate"))
            except LoginError:
                again = False
            if again:
                self._write(method, self._aggregate, {})
        elif answer.status == 454:
            self.ended = "the server forgot the session"
        elif answer.status >= 400 and method == "GET_PARAMETER":
            self._methods.discard("GET_PARAMETER")
            self._write("OPTIONS", self._aggregate, {})

    def _error(self, reason: Reason, what: str) -> SourceError:
        return SourceError(reason, f"{shown(self._request.url)}: {what}")
