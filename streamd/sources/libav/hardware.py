"""Decoding on an NVIDIA GPU, the pictures left there; and the way back to the processor, in the open.

Written against PyAV 18 and FFmpeg 8's source; no GPU has run it yet.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import av
import av.error
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamd.sources.libav.faults import plain
from streamd.sources.source import Hardware, SourceRequest

_KEPT = 32
"""Packets that are kept, from the first one on, so that the processor can begin with it as well: until then it shows
whether the GPU takes the stream, and whether the model can take its pictures."""

_ERRORS_IN_A_ROW = 30
_BLOCKING_SYNC = 4  # CU_CTX_SCHED_BLOCKING_SYNC


class NoHardwareError(Exception):
    """The GPU does not decode this; the message says why."""


def on_gpu(
    request: SourceRequest, software: VideoCodecContext, tell: Callable[[str], None]
) -> DeviceDecoder | None:
    """What decodes `software`'s stream on the GPU that is asked for; None where the processor has to, after telling.

    software: not opened yet; its extradata is copied now.
    """
    # `auto` will be the GPU, where there is one, as soon as one has run this for long enough to rely on it.
    if request.hardware is not Hardware.CUDA:
        return None
    try:
        if request.gpu is None:
            raise NoHardwareError("the model runs on no GPU, where its pictures would be wanted")
        return DeviceDecoder(accelerated(software, request.gpu), software, tell)
    except NoHardwareError as why:
        tell(f"hardware: {request.hardware}: {why}; decoding on the CPU")
        return None


def accelerated(software: VideoCodecContext, gpu: int) -> VideoCodecContext:
    """A decoder on this GPU for the stream that `software` is for, set as that one is. Raises NoHardwareError."""
    # AV1 is decoded by another library in software.
    name = software.codec.canonical_name
    _align_primary(gpu)
    try:
        # Without `allow_software_fallback` pictures never come back unasked. The primary context is the one that ONNX
        # Runtime computes in: PyAV asks for it by itself.
        hwaccel = HWAccel("cuda", device=gpu, allow_software_fallback=False, is_hw_owned=True)
        context = av.CodecContext.create(Codec(name, "r"), "r", hwaccel)
    # NotImplementedError is PyAV's word for a codec that no GPU decodes.
    except (av.error.FFmpegError, NotImplementedError, RuntimeError, ValueError) as error:
        raise NoHardwareError(f"libav opens no decoder on GPU {gpu}: {_words(error)}") from error
    assert isinstance(context, VideoCodecContext)
    if not context.is_hwaccel:
        raise NoHardwareError(f"no GPU decodes {name}")
    context.thread_count = 1
    context.flags |= software.flags
    if software.extradata:
        context.extradata = software.extradata
    return context


class DeviceDecoder:
    """Decodes on the GPU; where that fails or is refused, on the processor, without losing a picture if it is early.

    It offers what PyAV's own decoder does, as far as readers use it. Used in one thread.
    """

    def __init__(
        self, device: VideoCodecContext, software: VideoCodecContext, tell: Callable[[str], None]
    ) -> None:
        self._device: VideoCodecContext | None = device
        self._software = software
        self._tell = tell
        self._kept: list[Packet[VideoStream]] | None = []
        self._given = 0
        self._errors = 0
        self._refused: str | None = None

    @property
    def context(self) -> VideoCodecContext:
        """The decoder that works now: what it has learned of the stream."""
        return self._device or self._software

    @property
    def is_open(self) -> bool:
        return self.context.is_open

    def flush_buffers(self) -> None:
        """As PyAV's; also lets go of what is kept."""
        self._kept = None
        self.context.flush_buffers()

    def refuse(self, why: str) -> None:
        """The pictures cannot be used on the GPU: go on, on the processor, from the next packet on if all packets are
        kept yet, else from the next keyframe on. Only the first reason is told.
        """
        if self._device is not None and self._refused is None:
            self._refused = why
            self._tell(f"hardware: {why}; decoding on the CPU")

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that this packet (None: the end) completes. Raises FFmpegError, as PyAV's does."""
        if self._device is None:
            return self._software.decode(packet)
        if packet is None:
            return self._device.decode(None)
        if self._refused is not None and self._kept is None and packet.is_keyframe:
            return [*self._rest(), *self._software.decode(packet)]
        if self._kept is not None:
            self._kept.append(packet)
            if self._refused is not None:
                return self._again()
        try:
            frames = self._device.decode(packet)
        except av.error.FFmpegError as error:
            self._errors += 1
            if not self._given and self._kept is not None:
                self.refuse(f"the GPU does not decode this stream ({plain(error)})")
                return self._again()
            if self._errors >= _ERRORS_IN_A_ROW:
                self.refuse(f"nothing decodes on the GPU any more ({plain(error)})")
            raise
        kinds = {_kind(frame) for frame in frames} - {"nv12"}
        if kinds:
            self.refuse(f"its pictures are {kinds.pop()} there, which is not read from a GPU")
            return self._again() if self._kept is not None else []
        if frames:
            self._errors = 0
            self._given += len(frames)
        if self._kept is not None and len(self._kept) >= _KEPT:
            self._kept = None
        return frames

    def _again(self) -> list[VideoFrame]:
        """On the processor from the first packet on, but for the pictures that have been given."""
        assert self._kept is not None
        packets, self._kept, self._device = self._kept, None, None
        frames: list[VideoFrame] = []
        for number, packet in enumerate(packets, 1):
            try:
                frames += self._software.decode(packet)
            except av.error.FFmpegError:
                if number == len(packets) and not frames:
                    raise
        return frames[self._given :]

    def _rest(self) -> list[VideoFrame]:
        """What the GPU still holds; the processor goes on after it."""
        assert self._device is not None
        try:
            return self._device.decode(None)
        except av.error.FFmpegError:
            return []
        finally:
            self._device = None


def _kind(frame: VideoFrame) -> str:
    """How the pixels lie; of a frame that is not on the GPU, that."""
    if frame.format.name != "cuda" or frame.sw_format is None:
        return f"{frame.format.name} on the CPU"
    return frame.sw_format.name


def _words(error: Exception) -> str:
    return plain(error) if isinstance(error, av.error.FFmpegError) else str(error)


def _align_primary(gpu: int) -> None:
    """Let libav share the primary context with ONNX Runtime. Raises NoHardwareError.

    libav (cuda_context_init in hwcontext_cuda.c) takes a primary context that is in use only if it waits in its way,
    by blocking; ONNX Runtime, which was there first, leaves that to CUDA. CUDA lets it be set while it is in use:
    all who wait for this GPU sleep then instead of spinning.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NoHardwareError("libcuda.so.1 is missing: install NVIDIA's driver") from error
    handle = ctypes.c_int()
    code = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(handle), gpu)
        or cuda.cuDevicePrimaryCtxSetFlags_v2(handle, _BLOCKING_SYNC)
    )
    if code != 0:
        raise NoHardwareError(f"GPU {gpu} cannot be shared with the model (CUDA driver error {code})")
