"""An opened container becomes pictures: demux, decode, time stamps, damage."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Literal

import av.error
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamd.core.errors import Reason, SourceError
from streamd.core.picture import Picture
from streamd.sources.address import shown
from streamd.sources.advice import silence
from streamd.sources.libav.ending import Ending, declares_length, jpeg_is_whole
from streamd.sources.libav.faults import connection_fault, plain
from streamd.sources.libav.hardware import DeviceDecoder, on_gpu
from streamd.sources.libav.planes import Arrival, PlaneViews, picture_of
from streamd.sources.libav.streams import declared_s, duration_s
from streamd.sources.source import Closing, SourceRequest
from streamd.sources.thinning import Thinning

# A cut MP4 reports every sample that is missing; a damaged one recovers after a few.
_READ_ERRORS_IN_A_ROW = 32


class LibavSource(Closing):
    """One opened container and the decoder of one of its video streams. Used in one thread only.

    See `streamd.sources.source.Source` for what it offers. `reopen` opens the same file anew for decoding
    with one thread: PyAV drops what comes after an error while it empties a decoder with several.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        request: SourceRequest,
        live: bool,
        stop: threading.Event,
        reopen: Callable[[], LibavSource] | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._request = request
        self._stop = stop
        self._reopen = reopen
        self._views = PlaneViews()
        self._ahead: deque[Picture] = deque()
        self._decoding: VideoCodecContext | DeviceDecoder = stream.codec_context
        self._closed = False
        self._reader = self._decode_all()
        base = stream.time_base or Fraction(1)
        # Not the fraction: a division of whole numbers gives the same float in a twentieth of the time.
        self._ticks, self._per_s = base.numerator, base.denominator
        self._sar: Fraction | None = None
        self._decoded = 0
        self._spoilt = False
        self._newest_pts: float | None = None
        self._newest_packet: Packet[VideoStream] | None = None
        self._notes: list[str] = []
        self._size = (stream.width, stream.height)
        self.live = live
        self.damaged = 0
        self.lost_packets = 0
        self.thinning = Thinning()
        self.skipped = 0
        rate = stream.average_rate
        self.rate = float(rate) if rate else None
        self.duration_s = None if live else duration_s(container, stream)
        declared = None if live else declared_s(container, stream)
        self._ending = Ending(declared, 1 / self.rate if self.rate else None)

    @property
    def clock(self) -> Literal["arrival", "file"]:
        return "arrival" if self.live else "file"

    @property
    def codec(self) -> str:
        return str(self._stream.codec_context.codec.canonical_name)

    @property
    def profile(self) -> str | None:
        return self._stream.codec_context.profile

    @property
    def width(self) -> int:
        return self._size[0]

    @property
    def height(self) -> int:
        return self._size[1]

    @property
    def frames(self) -> int | None:
        if self.live:
            return None
        if self._stream.frames:
            return self._stream.frames
        if self.duration_s is None or self.rate is None:
            return None
        return round(self.duration_s * self.rate)

    @property
    def undecoded(self) -> Mapping[str, int]:
        return {"rate_limit": self.thinning.left_out} if self.live else {}

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def note(self, line: str) -> None:
        """Add a line to `notes`."""
        self._notes.append(line)

    def note_cut(self, why: str) -> None:
        """The file is known to be cut, whatever reading it will say."""
        self._ending.read_error = why

    def look_ahead(self) -> None:
        """Decode the first picture now: it alone says how the picture stands and whether there is one at all.

        Raises SourceError when there is none. Returns without one when the stop flag is set.
        """
        picture = next(self._reader, None)
        if picture is not None:
            self._size = (picture.width, picture.height)
            self._ahead.append(picture)

    def pictures(self) -> Iterator[Picture]:
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._reader

    def close(self) -> None:
        # Whoever still asks for pictures gets none: libav would read freed memory.
        self._closed = True
        if self._decoding is not None and self._decoding.is_open:
            # Waits, without the GIL, until the decoder's own threads are idle. Freeing the decoder waits
            # holding the GIL, while they may want it to log a line: a dead-lock.
            self._decoding.flush_buffers()
        self._container.close()

    # -- reading ---------------------------------------------------------------------------------------

    def _decode_all(self) -> Iterator[Picture]:
        self._prepare_decoder()
        arrival = Arrival.now()
        for packet in self._packets():
            arrival = Arrival.now()
            if self.live:
                if self.thinning.skips(packet.is_keyframe, arrival.ns, packet.pts):
                    continue
                packet.opaque = arrival
            frames = self._decode(packet)
            for frame in frames:
                picture = self._picture(frame, arrival)
                if picture is not None:
                    yield picture
                del frame, picture
            del frames
        if self._stop.is_set() or self._closed:
            return
        for frame in self._decode(None) if self._decoding.is_open else []:
            picture = self._picture(frame, arrival)
            if picture is not None:
                yield picture
        if self._reopen is not None and (self.damaged or self._ending.fault() is not None):
            yield from self._rest_with_one_thread(self._reopen)
        else:
            self._judge_end()

    def _rest_with_one_thread(self, reopen: Callable[[], LibavSource]) -> Iterator[Picture]:
        with reopen() as again:
            for index, picture in enumerate(again.pictures()):
                if index >= self._decoded:
                    yield picture

    def _prepare_decoder(self) -> None:
        # Given to `av.open`, these would never reach the decoder.
        context = self._stream.codec_context
        if self.live:
            context.thread_count = 1
            context.flags |= Flags.low_delay | Flags.copy_opaque
        else:
            # A format that states no length tells of a cut only by its last picture, and with several threads
            # the decoder's mark of damage may come after the picture.
            declares = declares_length(self._container.format.name)
            context.thread_count = self._request.threads if declares else 1
            context.thread_type = "AUTO"
        if (on_device := on_gpu(self._request, context, self.note)) is not None:
            self._decoding, self._views = on_device, PlaneViews(on_device.refuse)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets with content, until the end, the stop flag, or (live) the first error."""
        in_a_row = 0
        while not (self._stop.is_set() or self._closed):
            waiting = time.monotonic()
            try:
                for packet in self._container.demux(self._stream):
                    if self.live:
                        self._refuse_late(time.monotonic() - waiting)
                    if packet.size:
                        in_a_row = 0
                        yield packet
                    if self._stop.is_set() or self._closed:
                        return
                    waiting = time.monotonic()
                return
            except av.error.FFmpegError as error:
                if self.live:
                    elapsed_s = time.monotonic() - waiting
                    raise connection_fault(error, self._request, elapsed_s, "reading") from error
                self.damaged += 1
                in_a_row += 1
                if self._ending.read_error is None:
                    self._ending.read_error = plain(error)
                if in_a_row >= _READ_ERRORS_IN_A_ROW:
                    return

    def _refuse_late(self, waited_s: float) -> None:
        # At a read time-out libav's RTSP reader first hands over the picture that it held back, as if it had
        # just come, and would wait as long again before it tells.
        if waited_s >= self._request.timeout_s:
            raise silence(self._request, waited_s)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that this packet (None: the end) completes; none when it cannot be decoded."""
        failed = False
        try:
            frames = self._decoding.decode(packet)
        except av.error.EOFError:
            frames = []
        except av.error.BlockingIOError:
            # An earlier error left the decoder with a packet it never took: only starting afresh helps.
            self._decoding.flush_buffers()
            failed, frames = True, []
        except av.error.FFmpegError as error:
            if isinstance(error, (av.error.DecoderNotFoundError, av.error.PatchWelcomeError)):
                name = shown(self._request.url)
                raise SourceError(Reason.CODEC, f"{name}: no decoder for it: {plain(error)}") from error
            failed, frames = True, []
        self.damaged += failed
        damaged = failed or any(frame.is_corrupt for frame in frames)
        if packet is None:
            self._ending.last_damaged |= damaged
        else:
            damaged = damaged or packet.is_corrupt
            self._newest_packet = packet
            start = packet.pts if packet.pts is not None else packet.dts
            self._ending.packet(
                None if start is None else start * self._ticks / self._per_s,
                (packet.duration or 0) * self._ticks / self._per_s,
                damaged,
            )
        return frames

    def _picture(self, frame: VideoFrame, arrival: Arrival) -> Picture | None:
        """None when the picture lies before the asked start."""
        if self._stop.is_set():
            return None
        pts = None if frame.pts is None else round(frame.pts * self._ticks / self._per_s, 6)
        self._newest_pts = pts
        start_s = self._request.start_s
        if start_s is not None and not self.live:
            if pts is None:
                raise SourceError(
                    Reason.ERROR,
                    f"{shown(self._request.url)}: its pictures carry no time, so a start at {start_s:g} s"
                    " cannot be found; read it from its beginning",
                )
            if pts < start_s and not self._decoded:
                self.skipped += 1
                return None
        stamp = frame.opaque if self.live else None
        if frame.key_frame or not self._decoded:
            # Each asking makes a Fraction, and it changes with a keyframe only.
            context = self._stream.codec_context
            self._sar = self._stream.sample_aspect_ratio or context.sample_aspect_ratio
        self._decoded += 1
        # Nothing else tells here what a damaged picture spoils: all that follows, to the next keyframe.
        self._spoilt = frame.is_corrupt or (self._spoilt and not frame.key_frame)
        arrival = stamp if isinstance(stamp, Arrival) else arrival
        try:
            corrupt = self._spoilt or self.thinning.torn(frame.pts)
            gpu = self._request.gpu
            return picture_of(self._views, frame, pts, self._sar, arrival, corrupt=corrupt, gpu=gpu)
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                Reason.CODEC,
                f"{shown(self._request.url)}: pictures of the kind {frame.format.name} cannot be converted"
                f" ({type(error).__name__}); re-encode it to yuv420p",
            ) from error

    def _judge_end(self) -> None:
        name = shown(self._request.url)
        if self.live:
            raise SourceError(Reason.EOF, f"{name}: the stream ended after {self._decoded} pictures")
        if self.codec == "mjpeg" and self._newest_packet is not None:
            self._ending.last_damaged |= not jpeg_is_whole(bytes(self._newest_packet))
        total = self.skipped + self._decoded
        fault = self._ending.fault()
        if total == 0:
            why = self._ending.read_error or "nothing in it can be decoded"
            raise SourceError(Reason.CORRUPT, f"{name}: no picture in it: {why}; get a whole copy")
        if fault is not None:
            reason, why = fault
            at = "" if self._newest_pts is None else f" at {self._newest_pts:.2f} s"
            raise SourceError(
                reason, f"{name}: incomplete: {why}; the last is frame {total - 1}{at}; get a whole copy"
            )
