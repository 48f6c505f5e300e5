"""A camera's media: units become packets, at their time, with what is to go wrong."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import time
from collections.abc import Callable

from tests.support.camera_carriers import RTP_HEAD, Interleaver, OverTcp, OverUdp, Session, Track
from tests.support.camera_options import Faults, Stream
from tests.support.camera_wire import Record, Sent, Wire
from tests.support.rtp_packets import (
    CLOCK,
    AccessUnit,
    Units,
    bye,
    is_parameter_set,
    nal_type,
    payloads,
    rtp_packet,
    sender_report,
)

VIDEO_TYPE, AUDIO_TYPE = 96, 0
_AUDIO_CLOCK = 8_000
_DELIMITER = {"h264": 9, "hevc": 35}
# BYE goes by another socket than the pictures over UDP, and a client may look there first.
_BEFORE_BYE_S = 0.1


class Player:
    """Plays the units to one session, from the first on."""

    def __init__(
        self,
        units: Units,
        stream: Stream,
        faults: Faults,
        *,
        wire: Wire,
        interleaver: Interleaver,
        session: Session,
        record: Record,
        connection: int,
    ) -> None:
        self._units, self._stream, self._faults = units, stream, faults
        self._wire, self._interleaver = wire, interleaver
        self._session, self._record, self._connection = session, record, connection
        self._rate = stream.rate or units.rate
        self._chance = random.Random(faults.seed)
        self._packet = 0
        self._late: list[tuple[int, int, bytes]] = []
        self._requests = 0
        self._report_due = stream.first_report_s
        self.deaf = False

    def play(self) -> None:
        """Until the end of the units, of the session or of the connection."""
        with contextlib.suppress(OSError):
            start, self._start_s = time.monotonic(), time.time()
            for number in itertools.count():
                if number >= len(self._units) and not self._stream.loop:
                    self._end()
                    return
                wait = start + number / self._rate - time.monotonic() if self._stream.pace else 0.0
                if self._session.stop.wait(max(0.0, wait)) or self._wire.closing.is_set():
                    return
                if self._expired():
                    self._wire.close()
                    return
                if number == self._faults.after_units and self._breaks():
                    return
                self._before(number, time.monotonic() - start)
                self._unit(number)

    def _expired(self) -> bool:
        limit = self._session.alive + self._stream.timeout_s
        return self._stream.expire != "never" and time.monotonic() > limit

    def _breaks(self) -> bool:
        """Do what is to happen at `after_units`; True when that ends the media."""
        faults = self._faults
        self.deaf = faults.deaf
        if faults.half_packet is not None:
            track = self._session.tracks["video"]
            assert isinstance(track.carrier, OverTcp)
            self._interleaver.half(track.carrier.channels[0], b"\x80\x60" + bytes(1000))
        if faults.reset_at == "PLAYING":
            self._wire.reset()
        elif faults.close_at == "PLAYING" or faults.half_packet == "close":
            self._wire.close()
        elif faults.stall_at != "PLAYING" and faults.half_packet is None:
            return False
        return True

    def _before(self, number: int, elapsed: float) -> None:
        stream, faults = self._stream, self._faults
        if stream.reports_s is not None and elapsed >= self._report_due:
            self._report_due = elapsed + stream.reports_s
            for track in self._session.tracks.values():
                clock = CLOCK if track.kind == "video" else _AUDIO_CLOCK
                ticks = track.offset + round(elapsed * clock)
                track.carrier.rtcp(
                    sender_report(
                        track.ssrc, self._clock(number, elapsed), ticks, track.packets, track.octets
                    )
                )
        if faults.server_requests and number % faults.server_request_every == 0:
            method = faults.server_requests[self._requests % len(faults.server_requests)]
            self._requests += 1
            head = f"{method} * RTSP/1.0\r\nCSeq: {self._requests}\r\nSession: {self._session.name}\r\n\r\n"
            self._wire.send(head.encode())

    def _clock(self, number: int, elapsed: float) -> float:
        # Of the same moment as the timestamp beside it: a thread may be held up between two lines.
        jump = self._stream.clock_jump
        ahead = jump[1] if jump is not None and number >= jump[0] else 0.0
        return self._start_s + elapsed + self._stream.clock_offset_s + ahead

    def _unit(self, number: int) -> None:
        faults, units = self._faults, self._units
        lap, index = divmod(number, len(units))
        unit = units.units[index]
        seconds = unit.pts * units.rate / self._rate + lap * len(units) / self._rate
        track = self._session.tracks.get("video")
        if "audio" in self._session.tracks:
            self._silence(self._session.tracks["audio"], number)
        if track is None:
            return
        if faults.sequence_jump is not None and number == faults.sequence_jump[0]:
            track.sequence += faults.sequence_jump[1]
        if faults.timestamp_jump is not None and number == faults.timestamp_jump[0]:
            track.offset += faults.timestamp_jump[1]
        if faults.ssrc_change == number:
            track.ssrc ^= 0x5A5A5A5A
            track.sequence, track.offset = self._chance.getrandbits(16), self._chance.getrandbits(32)
        timestamp = (track.offset + round(seconds * CLOCK)) & 0xFFFFFFFF
        before = self._packet
        lost = self._packets(track, self._nals(unit), timestamp)
        self._interleaver.flush()
        sent = Sent(
            index,
            time.monotonic_ns(),
            number,
            timestamp,
            self._packet - before,
            lost,
            self._connection,
        )
        with self._record.change():
            self._record.sent.append(sent)

    def _nals(self, unit: AccessUnit) -> tuple[bytes, ...]:
        codec = self._units.codec
        own = any(is_parameter_set(codec, nal) for nal in unit.nals)
        if not unit.keyframe or not self._stream.in_band or own:
            return unit.nals
        # An access unit delimiter is to come first.
        at = int(nal_type(codec, unit.nals[0]) == _DELIMITER[codec])
        return unit.nals[:at] + self._units.parameter_sets + unit.nals[at:]

    def _packets(self, track: Track, nals: tuple[bytes, ...], timestamp: int) -> int:
        faults, lost = self._faults, 0
        cut = payloads(self._units.codec, nals, self._stream.mtu - RTP_HEAD, self._stream.aggregate)
        for place, payload in enumerate(cut):
            index, self._packet = self._packet, self._packet + 1
            packet = rtp_packet(
                payload,
                marker=self._marker(index, place == len(cut) - 1),
                payload_type=VIDEO_TYPE if faults.payload_type is None else faults.payload_type,
                sequence=track.sequence,
                timestamp=timestamp,
                ssrc=track.ssrc,
                dress=faults.dress,
            )
            track.sequence += 1
            if self._happens(faults.lose, index):
                lost += 1
                continue
            self._send(track, index, packet)
        return lost

    def _send(self, track: Track, index: int, packet: bytes) -> None:
        if not isinstance(track.carrier, OverUdp):
            track.send(packet)
            return
        for _ in range(2 if self._happens(self._faults.duplicate, index) else 1):
            # To a client the first packet that comes is the first there is.
            place = index + self._chance.randint(0, self._faults.reorder if index else 0)
            heapq.heappush(self._late, (place, self._chance.getrandbits(32), packet))
        while self._late and self._late[0][0] <= index:
            track.send(heapq.heappop(self._late)[2])

    def _marker(self, index: int, right: bool) -> bool:
        marker = self._faults.marker
        if callable(marker):
            return marker(index, right)
        return {"right": right, "none": False, "all": True}[marker]

    def _happens(self, share: float | Callable[[int], bool], index: int) -> bool:
        if callable(share):
            return share(index)
        return share > 0 and self._chance.random() < share

    def _silence(self, track: Track, number: int) -> None:
        begin, end = (round(place * _AUDIO_CLOCK / self._rate) for place in (number, number + 1))
        packet = rtp_packet(
            b"\xff" * (end - begin),
            marker=number == 0,
            payload_type=AUDIO_TYPE,
            sequence=track.sequence,
            timestamp=track.offset + begin,
            ssrc=track.ssrc,
        )
        track.sequence += 1
        track.send(packet)

    def _end(self) -> None:
        video = self._session.tracks.get("video")
        while self._late and video is not None:
            video.send(heapq.heappop(self._late)[2])
        if "bye" in self._stream.at_end:
            if any(isinstance(track.carrier, OverUdp) for track in self._session.tracks.values()):
                self._session.stop.wait(_BEFORE_BYE_S)
            for track in self._session.tracks.values():
                track.carrier.rtcp(bye(track.ssrc))
        self._interleaver.flush()
        if "close" in self._stream.at_end:
            self._wire.close()
