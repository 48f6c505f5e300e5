"""One attempt at an RTSP stream, from the address to pictures. All of it happens in the thread that reads."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal

import av.error
from av.video.frame import VideoFrame

from streamd.core.errors import Reason, SourceError
from streamd.core.picture import Picture
from streamd.sources.address import shown
from streamd.sources.advice import ADVICE, silence
from streamd.sources.libav.planes import PlaneViews, picture_of
from streamd.sources.rtsp import rtcp
from streamd.sources.rtsp.connection import SLICE_S, StoppedError
from streamd.sources.rtsp.decoding import PictureDecoder, Stamp
from streamd.sources.rtsp.depacketise import Depacketiser
from streamd.sources.rtsp.description import Track
from streamd.sources.rtsp.nal import CODECS, START
from streamd.sources.rtsp.reorder import Reorderer
from streamd.sources.rtsp.rtp import Packet, Reception, Timeline, parse
from streamd.sources.rtsp.session import Session
from streamd.sources.rtsp.units import AccessUnit, Assembler
from streamd.sources.source import Closing, SourceRequest
from streamd.sources.thinning import Thinning

_REPORT_S = 5.0
_BEHIND_S = 1.0
"""How old the oldest undecoded picture may get, before what lies before the newest keyframe is left out."""

_MOST_WAITING = 600
_MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Undecoded pictures and their bytes, after which all are left out up to the next keyframe."""

_MOST_HELD = 8
"""Undecoded pictures beyond which nothing more is read, where nothing may be left out."""


class RtspSource(Closing):
    """A playing session and its decoder; see `streamd.sources.source.Source` for what it offers."""

    live = True
    clock: Literal["arrival", "file"] = "arrival"
    duration_s = None
    frames = None

    def __init__(
        self,
        session: Session,
        track: Track,
        request: SourceRequest,
        stop: threading.Event,
        notes: list[str],
        udp: bool,
    ) -> None:
        codec = CODECS[track.codec]
        self._session = session
        self._track = track
        self._request = request
        self._stop = stop
        self._notes = notes
        self._payload_types = {track.payload_type, *track.payload_types}
        self._decoder = PictureDecoder(codec, track.parameter_sets, request, notes.append)
        self._views = PlaneViews(self._decoder.refuse)
        self._assembler = Assembler(Depacketiser(codec))
        self._reorderer = Reorderer() if udp else None
        self._reception = Reception(track.clock_rate)
        self._timeline = Timeline(track.clock_rate)
        self._waiting: deque[AccessUnit] = deque()
        self._ahead: deque[Picture] = deque()
        self._size = (0, 0)
        self._ours = random.getrandbits(32)  # nosec B311  # an SSRC guards nothing
        self._reported_ns = time.monotonic_ns()
        self._sender_report: tuple[int, int] | None = (
            None  # middle of its NTP time, when it came (monotonic ns)
        )
        self._early: rtcp.SenderReport | None = None  # came before the first packet
        self._heard_ns = time.monotonic_ns()
        self._sar: Fraction | None = None
        self._closed = False
        self.skipped = 0
        self.lost_packets = 0
        self.late = 0
        self.thinning = Thinning()

    @property
    def codec(self) -> str:
        return self._decoder.context.name

    @property
    def profile(self) -> str | None:
        return self._decoder.context.profile

    @property
    def width(self) -> int:
        return self._size[0]

    @property
    def height(self) -> int:
        return self._size[1]

    @property
    def rate(self) -> float | None:
        framerate = self._decoder.context.framerate
        return self._track.rate or (float(framerate) if framerate else None)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    @property
    def damaged(self) -> int:
        return self._decoder.errors

    @property
    def undecoded(self) -> Mapping[str, int]:
        decoder = self._decoder
        return {
            "behind": self.late,
            "damaged": decoder.damaged,
            "no_keyframe": decoder.skipped,
            "rate_limit": self.thinning.left_out,
        }

    @property
    def heard(self) -> bool:
        """Whether a media packet of this track has come."""
        return self._reception.ssrc is not None

    def look_ahead(self, patience_s: float | None = None) -> bool:
        """Decode the first picture now; False when nothing at all came within `patience_s` seconds.

        Raises SourceError and StoppedError.
        """
        started = time.monotonic()
        for picture in self._read():
            if picture is not None:
                self._size = (picture.width, picture.height)
                self._ahead.append(picture)
                return True
            if patience_s is not None and not self.heard and time.monotonic() - started > patience_s:
                return False
        # Reading ends without a picture only when it was stopped.
        raise StoppedError

    def pictures(self) -> Iterator[Picture]:
        while self._ahead:
            yield self._ahead.popleft()
        yield from filter(None, self._read())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._session.close()
            self._decoder.close()

    # -- reading ---------------------------------------------------------------------------------------

    def _read(self) -> Iterator[Picture | None]:
        """Pictures, and None each time that there is none to give. Ends with the stop flag."""
        try:
            while not (self._stop.is_set() or self._closed):
                try:
                    if not self._request.every or len(self._waiting) < _MOST_HELD:
                        self._pump(0 if self._waiting else SLICE_S)
                except SourceError:
                    yield from self._rest()
                    raise
                if len(self._waiting) > 1 and not self._request.every:
                    self._shed()
                if not self._waiting:
                    yield None
                    continue
                yield from self._decode(self._waiting.popleft())
        except StoppedError:
            return

    def _pump(self, wait_s: float) -> None:
        """Take in everything that has come. Raises SourceError when the stream is over."""
        session = self._session
        media = session.media(wait_s)
        now_ns = media.arrival.ns
        for data in media.rtcp:
            self._take_reports(data, now_ns)
        for data in media.rtp:
            packet = parse(data, media.arrival)
            if packet is None or packet.payload_type not in self._payload_types:
                continue
            if self._reorderer is None:
                self._receive(packet)
            else:
                for ordered in self._reorderer.push(packet):
                    self._receive(ordered)
        if self._reorderer is not None:
            for packet in self._reorderer.overdue(now_ns):
                self._receive(packet)
        if session.ended is not None:
            raise SourceError(Reason.EOF, f"{self._name}: {session.ended}")
        elapsed_s = (now_ns - self._heard_ns) / 1e9
        if elapsed_s >= self._request.timeout_s:
            raise silence(self._request, elapsed_s)
        if now_ns >= session.keep_alive_ns:
            session.keep_alive()
        if now_ns - self._reported_ns >= _REPORT_S * 1e9:
            self._report(now_ns)

    def _receive(self, packet: Packet) -> None:
        """A packet in order: of a new sender, after a gap, or just the next."""
        before = self._reception.ssrc
        missing = self._reception.gap(packet)
        if missing is None:
            return
        if missing:
            self.lost_packets += missing
            if before != packet.ssrc:
                self._timeline.restarted()
                self._assembler.restart()
        if before is None and self._early is not None and self._early.ssrc == packet.ssrc:
            self._clocked(self._early)
        self._heard_ns = packet.arrival.ns
        if packet.payload or missing:  # padding alone carries nothing, but may tell of a loss
            self._waiting += self._assembler.push(packet, missing > 0)

    def _take_reports(self, data: bytes, now_ns: int) -> None:
        for report in rtcp.parse(data):
            if self._reception.ssrc not in (None, report.ssrc):
                continue
            if isinstance(report, rtcp.Bye):
                self._session.ended = ADVICE[Reason.EOF]
            else:
                self._sender_report = (report.ntp_middle, now_ns)
                if self.heard:
                    self._clocked(report)
                else:
                    self._early = report

    def _clocked(self, report: rtcp.SenderReport) -> None:
        if report.at_us is not None:
            self._timeline.reported(report.timestamp, report.at_us)

    def _report(self, now_ns: int) -> None:
        self._reported_ns = now_ns
        middle, came_ns = self._sender_report or (0, now_ns)
        report = rtcp.receiver_report(
            self._ours, "streamd", self._reception, middle, (now_ns - came_ns) / 1e9
        )
        self._session.report(report)

    # -- decoding --------------------------------------------------------------------------------------

    def _shed(self) -> None:
        """When decoding is behind, nobody wants the old pictures: go on with the newest that can stand alone."""
        waiting = self._waiting
        old = time.monotonic_ns() - waiting[0].arrival.ns >= _BEHIND_S * 1e9
        full = len(waiting) > _MOST_WAITING or sum(len(unit.data) for unit in waiting) > _MOST_WAITING_BYTES
        if not (old or full):
            return
        starts = [index for index, unit in enumerate(waiting) if unit.begins]
        count = starts[-1] if starts else len(waiting) if full else 0
        if count:
            for _ in range(count):
                waiting.popleft()
            self.late += count
            self._decoder.integrity.lose()

    def _decode(self, unit: AccessUnit) -> list[Picture]:
        if self.thinning.skips(unit.begins, unit.arrival.ns):
            self._decoder.integrity.lose()
            return []
        timestamp = self._timeline.unwrapped(unit.timestamp)
        stamp = Stamp(unit.arrival, self._timeline.pts(timestamp), self._timeline.captured_us(timestamp))
        frames = self._decoder.decode(unit, stamp)
        if unit.roles & START:
            # libav's number becomes a Fraction each time it is asked for: slow, and it seldom changes.
            self._sar = self._decoder.context.sample_aspect_ratio
        return [self._picture(frame, known) for frame, known in frames]

    def _rest(self) -> Iterator[Picture]:
        """What came before the end: it is still shown."""
        for packet in self._reorderer.flush() if self._reorderer is not None else ():
            self._receive(packet)
        self._waiting.extend(self._assembler.flush())
        while self._waiting and not self._stop.is_set():
            yield from self._decode(self._waiting.popleft())
        for frame, known in self._decoder.flush():
            yield self._picture(frame, known)

    def _picture(self, frame: VideoFrame, stamp: Stamp) -> Picture:
        try:
            return picture_of(
                self._views,
                frame,
                stamp.pts,
                self._sar,
                stamp.arrival,
                captured_us=stamp.captured_us,
                corrupt=stamp.corrupt,
                gpu=self._request.gpu,
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                Reason.CODEC,
                f"{self._name}: pictures of the kind {frame.format.name} cannot be converted"
                f" ({type(error).__name__}); set the camera to 8-bit 4:2:0",
            ) from error

    @property
    def _name(self) -> str:
        return shown(self._request.url)
