"""NVDEC against the processor: pictures a second of one 1080p H.264 clip. Needs PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tools.gpu_report.measure import Bench, NotMeasuredError

SIZE = (1920, 1080)
RATE = 30


def rates(bench: Bench) -> Iterator[tuple[str, str]]:
    """A row for each way to decode. Raises NotMeasuredError without PyAV."""
    try:
        import av
        from av.codec.hwaccel import HWAccel
        from av.error import FFmpegError
    except ImportError as error:
        raise NotMeasuredError("PyAV is not installed") from error
    small = bench.provider == "cpu"
    clip = bench.folder / "clip.mp4"
    write_clip(clip, (320, 180) if small else SIZE, RATE if small else 10 * RATE)

    def decoded_per_s(hwaccel: HWAccel | None) -> float:
        count, started = 0, time.perf_counter()
        while (took_s := time.perf_counter() - started) < bench.seconds or not count:
            with av.open(str(clip), hwaccel=hwaccel) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                for frame in container.decode(stream):
                    if hwaccel is not None and frame.format.name != "cuda":
                        raise NotMeasuredError(f"decoded to {frame.format.name}, not on the GPU")
                    count += 1
        return count / took_s

    yield "H.264, processor, one thread", f"{decoded_per_s(None):.0f} pictures/s"
    if small:
        raise NotMeasuredError("NVDEC needs a GPU; this ran with --cpu")
    try:
        staying = HWAccel("cuda", device=bench.device, allow_software_fallback=False, is_hw_owned=True)
        yield "H.264, NVDEC, pictures stay on the GPU", f"{decoded_per_s(staying):.0f} pictures/s"
    except (FFmpegError, RuntimeError, ValueError, NotImplementedError) as error:
        raise NotMeasuredError(f"NVDEC: {error}") from error


def write_clip(path: Path, size: tuple[int, int], frames: int) -> None:
    """A clip of so many pictures of a texture that moves; size: width, height."""
    import av

    width, height = size
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 256, (height + 64, width + 64, 3), np.uint8)
    texture = texture // 4 + 96
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            shift = number % 64
            image = np.ascontiguousarray(texture[shift : shift + height, shift : shift + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
