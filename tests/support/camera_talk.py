"""A camera's side of one RTSP connection: requests are read and answered, as asked or not (RFC 2326)."""

from __future__ import annotations

import re
import secrets
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable

from tests.support.camera_answers import Answer, endless, written
from tests.support.camera_carriers import Interleaver, OverTcp, OverUdp, Session, Track
from tests.support.camera_login import Gate
from tests.support.camera_options import Faults, Step, Stream
from tests.support.camera_playing import Player
from tests.support.camera_sdp import described
from tests.support.camera_wire import Record, Report, Request, Wire, read_request
from tests.support.rtp_packets import Units

_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"


class Talk:
    """One connection; `run` is its reading thread."""

    def __init__(
        self,
        units: Units,
        stream: Stream,
        faults: Faults,
        *,
        wire: Wire,
        gate: Gate | None,
        record: Record,
        url: str,
        number: int,
    ) -> None:
        self._units, self._stream, self._faults = units, stream, faults
        self._gate, self._record, self._url, self._number = gate, record, url, number
        self.wire = wire
        self._interleaver = Interleaver(wire, faults)
        self._session = Session(secrets.token_hex(4))
        self._player: Player | None = None
        self._threads: list[threading.Thread] = []

    def run(self, tls: ssl.SSLContext | None) -> None:
        """Until the client leaves or the camera closes."""
        try:
            if not self._breaks("ACCEPT") and tls is not None:
                self.wire.encrypt(tls)
            while not self.wire.closing.is_set():
                self._read()
        except OSError:
            pass
        finally:
            self._leave()

    def _leave(self) -> None:
        self.wire.closing.set()
        self._session.stop.set()
        for thread in self._threads:
            thread.join()
        self.wire.release()

    def _read(self) -> None:
        first = self.wire.read(1)
        if first == b"$":
            channel, *size = self.wire.read(3)
            packet = self.wire.read(int.from_bytes(bytes(size), "big"))
            for track in self._session.tracks.values():
                if isinstance(track.carrier, OverTcp) and track.carrier.channels[1] == channel:
                    self._heard(track.kind, packet)
            return
        request = read_request(self.wire, first, self._number)
        with self._record.change():
            if isinstance(request, bytes):
                self._record.answers.append(request)
                return
            self._record.requests.append(request)
        self._session.alive = time.monotonic()
        if self._player is None or not self._player.deaf:
            self._respond(request)

    def _heard(self, track: str, packet: bytes) -> None:
        if self._stream.expire == "requests+rtcp":
            self._session.alive = time.monotonic()
        with self._record.change():
            self._record.reports.append(Report(packet, track, time.monotonic_ns(), self._number))

    def _breaks(self, step: Step | str) -> bool:
        if self._faults.stall_at == step:
            self.wire.stall()
        if self._faults.reset_at == step:
            self.wire.reset()
        elif self._faults.close_at == step:
            self.wire.close()
        else:
            return False
        return True

    def _respond(self, request: Request) -> None:
        faults, method = self._faults, request.method
        if self._breaks(method):
            return
        if method in faults.delay_s:
            self.wire.stall(faults.delay_s[method])
        if method in faults.raw:
            self.wire.send(faults.raw[method])
            return
        if method in faults.endless:
            endless(self.wire, request, faults.endless[method], faults.drip_s)
        answer = self._answer(request)
        plain = written(answer, request, faults)
        self.wire.send(faults.answer(method, plain) if faults.answer else plain)
        if answer.code == 200 and method == "PLAY":
            self._start()
        elif answer.code == 200 and method == "TEARDOWN":
            self._session.stop.set()

    def _answer(self, request: Request) -> Answer:
        faults, method = self._faults, request.method
        if method in faults.status:
            answer = Answer(faults.status[method])
            if faults.location is not None:
                answer.add("Location", request.url if faults.location == "self" else faults.location)
            return answer
        if self._gate is not None:
            wanted = self._gate.challenges(method, request.url, request.headers.get("authorization"))
            if wanted is not None:
                answer = Answer(401)
                for challenge in wanted:
                    answer.add("WWW-Authenticate", challenge)
                return answer
        if method == "OPTIONS":
            return Answer(200).add("Public", _METHODS)
        if method == "DESCRIBE":
            return self._describe(request)
        if method == "SETUP":
            return self._setup(request)
        if method not in ("PLAY", "GET_PARAMETER", "TEARDOWN"):
            return Answer(501)
        if method == "PLAY" and (not self._session.tracks or self._player is not None):
            return Answer(455)
        named = request.headers.get("session", "").partition(";")[0].strip()
        if named != self._session.name and (named or method != "GET_PARAMETER"):
            return Answer(454)
        return self._play() if method == "PLAY" else self._in_session(Answer(200))

    def _in_session(self, answer: Answer, timeout: str = "") -> Answer:
        return answer.add("Session", self._session.name + timeout) if self._faults.session_header else answer

    def _describe(self, request: Request) -> Answer:
        parts = (urllib.parse.urlsplit(url).path.rstrip("/") for url in (request.url, self._url))
        if next(parts) != next(parts):
            return Answer(404)
        text = described(self._units, self._stream, self._url)
        if self._faults.sdp is not None:
            text = self._faults.sdp(text)
        if self._faults.bare_lf:
            text = text.replace("\r\n", "\n")
        answer = Answer(200, body=text.encode())
        if self._stream.content_base is not None:
            answer.add("Content-Base", self._stream.content_base.format(url=self._url))
        return answer.add("Content-Type", "application/sdp")

    def _setup(self, request: Request) -> Answer:
        kinds = ["video"]
        if self._stream.audio is not None:
            kinds.insert(1 if self._stream.audio == "after" else 0, "audio")
        found = re.search(r"trackID=(\d+)", request.url)
        index = int(found[1]) if found else kinds.index("video")
        if index >= len(kinds):
            return Answer(404)
        if self._player is not None:
            return Answer(455)
        asked = request.headers.get("transport", "")
        tcp = "RTP/AVP/TCP" in asked
        if self._faults.refuse == ("tcp" if tcp else "udp"):
            return Answer(461)
        ssrc = secrets.randbits(32)
        ports = re.search(r"(?:interleaved|client_port)=(\d+)(?:-(\d+))?", asked)
        first = int(ports[1]) if ports else 2 * index
        second = int(ports[2]) if ports and ports[2] else first + 1
        if tcp:
            if self._stream.channels is not None:
                first = self._stream.channels + 2 * index
                second = first + 1
            carrier: OverTcp | OverUdp = OverTcp(self._interleaver, (first, second))
            said = f"RTP/AVP/TCP;unicast;interleaved={first}-{second}"
        elif ports and "multicast" not in asked:
            carrier = OverUdp(self.wire.peer(), (first, second), self._faults.blocked_udp)
            own = "-".join(map(str, carrier.ports))
            said = f"RTP/AVP;unicast;client_port={first}-{second};server_port={own}"
            self._thread(carrier.listen, self.wire.closing, lambda packet: self._heard(kinds[index], packet))
        else:
            return Answer(461)
        sequence, offset = self._stream.first_sequence, self._stream.timestamp_offset
        self._session.tracks[kinds[index]] = Track(
            kinds[index],
            carrier,
            ssrc,
            secrets.randbits(16) if sequence is None else sequence,
            secrets.randbits(32) if offset is None else offset,
            request.url,
        )
        answer = Answer(200).add("Transport", f"{said};ssrc={ssrc:08X}")
        return self._in_session(answer, f";timeout={self._stream.timeout_s}")

    def _play(self) -> Answer:
        answer = Answer(200).add("Range", "npt=0.000-")
        if self._stream.rtp_info:
            rows = (
                f"url={track.url};seq={track.sequence & 0xFFFF};rtptime={track.offset & 0xFFFFFFFF}"
                for track in self._session.tracks.values()
            )
            answer.add("RTP-Info", ",".join(rows))
        return self._in_session(answer)

    def _start(self) -> None:
        self._player = Player(
            self._units,
            self._stream,
            self._faults,
            wire=self.wire,
            interleaver=self._interleaver,
            session=self._session,
            record=self._record,
            connection=self._number,
        )
        self._thread(self._player.play)

    def _thread(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)
