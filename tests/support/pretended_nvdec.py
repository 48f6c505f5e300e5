"""Stands in for NVDEC, which cannot be had here: libav's decoder on the processor, its pictures as NVDEC leaves them.

The pictures are NV12 in lines longer than the picture, at addresses that only the numbers tell, and they are *not
there yet* when the decoder returns: NVDEC's last copy is queued on the device's default stream. `PretendedDevice` is
where they lie: host memory that a session on ONNX Runtime's CPU provider computes in.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from streamd.models.contract import Array
from streamd.models.creation import create_whole
from tests.support.far_memory import FarMemory

PITCH = 512


class PretendedDevice:
    """See `streamd.models.device.Device`. `memories`: all that it gave, in order."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.memories: list[FarMemory] = []
        self.graphs: list[bytes] = []
        self.decoders: list[PretendedDecoder] = []
        self.decoding: list[Callable[[], None]] = []
        """What decoders have queued, and nobody has waited for yet."""

    def memory(self) -> FarMemory:
        memory = FarMemory()
        memory.decoding = self.decoding
        self.memories.append(memory)
        return memory

    def decoder(self, software: VideoCodecContext, gpu: int, **chosen: Any) -> PretendedDecoder:
        """In place of `hardware.accelerated`."""
        assert gpu == self.number
        self.decoders.append(PretendedDecoder(software, self, **chosen))
        return self.decoders[-1]

    def session(self, graph: bytes) -> Any:
        self.graphs.append(graph)
        return create_whole(graph, ("CPUExecutionProvider", {}))


class PretendedFrame:
    """A frame in that device's memory: PyAV's, as far as streamd asks."""

    def __init__(self, frame: Any, device: PretendedDevice, kind: str) -> None:
        self._frame = frame
        self.format = SimpleNamespace(name="cuda")
        self.sw_format = SimpleNamespace(name=kind)
        here = VideoReformatter().reformat(frame, format="nv12")
        self._here = here
        self._held: list[Array] = []
        self.planes = []
        for plane, across in zip(here.planes, (1, 2), strict=True):
            lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width * across]
            pitch = -(-(lines.shape[1] + 1) // PITCH) * PITCH
            held = np.full((len(lines), pitch), 0xA5, np.uint8)
            device.decoding.append(
                lambda held=held, lines=lines: held.__setitem__(np.s_[:, : lines.shape[1]], lines)
            )
            self._held.append(held)
            self.planes.append(SimpleNamespace(buffer_ptr=held.ctypes.data, line_size=pitch))
        self.downloads = 0

    def reformat(self, format: str) -> Any:
        assert format == "nv12"
        self.downloads += 1
        return self._here

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)


class PretendedDecoder:
    """A decoder. refuse_from: the packet, from 0, that it refuses, and all after it. kind: its pixels."""

    def __init__(
        self,
        software: VideoCodecContext,
        device: PretendedDevice,
        refuse_from: int | None = None,
        kind: str = "nv12",
    ) -> None:
        context = av.CodecContext.create(software.codec.canonical_name, "r")
        assert isinstance(context, VideoCodecContext)
        context.thread_count = 1
        context.flags |= software.flags
        if software.extradata:
            context.extradata = software.extradata
        self._context = context
        self._device = device
        self._refuse_from = refuse_from
        self._kind = kind
        self.packets = 0
        self.frames: list[PretendedFrame] = []

    def decode(self, packet: Any) -> list[PretendedFrame]:
        self.packets += 1
        if self._refuse_from is not None and self.packets > self._refuse_from:
            raise av.error.InvalidDataError(1, "no decoder surfaces left")
        made = [PretendedFrame(frame, self._device, self._kind) for frame in self._context.decode(packet)]
        self.frames += made
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
