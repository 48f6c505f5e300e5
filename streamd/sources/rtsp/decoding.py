"""Access units become frames, and it is known of each whether it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import av.error
from av.codec.context import Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from streamd.sources.libav.hardware import DeviceDecoder, on_gpu
from streamd.sources.libav.planes import Arrival
from streamd.sources.rtsp.nal import H265, INSTANT, START_CODE, Codec
from streamd.sources.rtsp.units import AccessUnit
from streamd.sources.source import SourceRequest


@dataclass(slots=True)
class Stamp:
    """What is known of an access unit; libav carries it to the frame that comes of it."""

    arrival: Arrival
    pts: float
    captured_us: int | None
    corrupt: bool = False


class Integrity:
    """Whether pictures can be trusted: not before a random access point, and not from a loss to the next one.

    A random access point that is not an IDR picture may be followed by pictures that are shown before it and
    refer to what came before it: those are not to be trusted either.
    """

    def __init__(self) -> None:
        self._trusted = False
        self._begun = False
        self._countdown: int | None = None
        self._clean_from: float | None = None

    def judge(self, unit: AccessUnit, pts: float) -> bool | None:
        """Whether this unit's picture is right. None: decoding cannot begin here, leave it out."""
        instant = unit.roles & INSTANT
        if unit.damaged:
            self.lose()
        elif unit.begins:
            if not self._trusted:
                self._clean_from = None if instant else pts
            self._trusted, self._begun, self._countdown = True, True, None
        elif not self._trusted:
            self._count(unit, pts)
        if not self._begun:
            return None
        return self._trusted and (self._clean_from is None or pts >= self._clean_from)

    def lose(self) -> None:
        """Something is missing or wrong: from now on nothing is trusted until the next random access point."""
        self._trusted, self._countdown = False, None

    def _count(self, unit: AccessUnit, pts: float) -> None:
        """Without random access points (intra refresh) pictures are right some pictures after a recovery point."""
        if self._countdown is not None:
            self._countdown -= 1
            if self._countdown <= 0:
                self._trusted, self._countdown, self._clean_from = True, None, pts
        elif unit.recovery is not None:
            self._begun, self._countdown = True, unit.recovery


class PictureDecoder:
    """libav's decoder for one track, one picture in, what is ready out. Used in one thread."""

    def __init__(
        self,
        codec: Codec,
        parameter_sets: list[bytes],
        request: SourceRequest,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """tell: takes a line when something decodes otherwise than asked, now or later."""
        context = av.CodecContext.create(codec.name, "r")
        assert isinstance(context, VideoCodecContext)
        # More threads would hold pictures back.
        context.thread_count = 1
        context.flags |= Flags.low_delay | Flags.copy_opaque
        if codec is H265:
            # Else libav keeps pictures that refer to a missing one to itself, and nobody could count them.
            context.flags |= Flags.output_corrupt
        if parameter_sets:
            context.extradata = b"".join(START_CODE + unit for unit in parameter_sets)
        self._decoder: VideoCodecContext | DeviceDecoder = on_gpu(request, context, tell) or context
        self.integrity = Integrity()
        self.skipped = 0
        """Units before the first random access point."""
        self.damaged = 0
        """Units that were not whole."""
        self.errors = 0

    @property
    def context(self) -> VideoCodecContext:
        """libav's decoder that works now: what it has learned of the stream."""
        return self._decoder.context if isinstance(self._decoder, DeviceDecoder) else self._decoder

    def refuse(self, why: str) -> None:
        """See `DeviceDecoder.refuse`."""
        if isinstance(self._decoder, DeviceDecoder):
            self._decoder.refuse(why)

    def decode(self, unit: AccessUnit, stamp: Stamp) -> list[tuple[VideoFrame, Stamp]]:
        """The frames that this unit completes, mostly its own."""
        right = self.integrity.judge(unit, stamp.pts)
        # To libav an empty packet is the end of the stream, for good.
        if right is None or not unit.data:
            self.skipped += 1
            return []
        if unit.damaged:
            # What libav paints over lost parts with can end up in the next keyframe, where nothing marks it, even
            # if its buffers are flushed: so it is given whole pictures only.
            self.damaged += 1
            return []
        stamp.corrupt = not right
        packet: Any = Packet(bytes(unit.data))
        packet.opaque = stamp
        if isinstance(self._decoder, DeviceDecoder):
            packet.is_keyframe = unit.begins
        return self._frames(packet)

    def flush(self) -> list[tuple[VideoFrame, Stamp]]:
        """The frames that the decoder still holds, at the end."""
        return self._frames(None) if self._decoder.is_open else []

    def close(self) -> None:
        """Let the decoder come to rest; freeing it is PyAV's."""
        if self._decoder.is_open:
            self._decoder.flush_buffers()

    def _frames(self, packet: Any) -> list[tuple[VideoFrame, Stamp]]:
        try:
            frames = self._decoder.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            if isinstance(error, av.error.BlockingIOError):
                self._decoder.flush_buffers()
            self.errors += 1
            self.integrity.lose()
            return []
        found = []
        for frame in frames:
            stamp = frame.opaque
            assert isinstance(stamp, Stamp)
            if frame.is_corrupt and not stamp.corrupt:
                # Of one that was not trusted anyway it is no news, and what came after it may be right again.
                self.integrity.lose()
                stamp.corrupt = True
            found.append((frame, stamp))
        return found
