"""Decoding on a GPU, where it can be had; and the way back to the processor, in the open, no picture lost.

Here there is no GPU: that it is refused is real. What a GPU would give comes from a stand-in for NVDEC
(tests/support/pretended_nvdec.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamd.core.picture import Layout, Picture
from streamd.models import libraries
from streamd.models.memory import CudaMemory
from streamd.sources import Hardware, Reader, Source, SourceRequest, open_source
from streamd.sources.libav import hardware
from tests.support.clips import Clip, make, number_in
from tests.support.gpu import needs_gpu, needs_no_gpu
from tests.support.pretended_nvdec import PITCH, PretendedDecoder, PretendedDevice
from tests.support.rtsp_camera import Camera
from tests.support.rtsp_film import PACED, Film

FRAMES = 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clip") / "a.mp4", Clip(frames=FRAMES, b_frames=2))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    from tests.support.rtsp_camera import units_of
    from tests.support.rtsp_reading import decoded

    path = make(tmp_path_factory.mktemp("film") / "a.mp4", Clip(frames=FRAMES))
    return Film(units_of(path), decoded(path))


class Nvdec:
    """Where a decoder on the GPU is asked for, the stand-in is made, as `chosen` says."""

    def __init__(self) -> None:
        self.device = PretendedDevice()
        self.chosen: dict[str, Any] = {}

    @property
    def made(self) -> list[PretendedDecoder]:
        return self.device.decoders

    def accelerated(self, software: Any, gpu: int) -> PretendedDecoder:
        return self.device.decoder(software, gpu, **self.chosen)


@pytest.fixture
def nvdec(monkeypatch: pytest.MonkeyPatch) -> Nvdec:
    pretended = Nvdec()
    monkeypatch.setattr(hardware, "accelerated", pretended.accelerated)
    return pretended


def on_gpu(path: Path | str, **more: Any) -> SourceRequest:
    return SourceRequest(str(path), gpu=0, hardware=Hardware.CUDA, **more)


def number(picture: Picture) -> int | None:
    return number_in(np.asarray(picture.on_host().planes[0]))


def opened(request: SourceRequest) -> Source:
    return open_source(request, threading.Event())


# -- where there is no GPU ------------------------------------------------------------------------------


@needs_no_gpu
def test_without_a_gpu_the_processor_decodes_and_a_note_says_why(clip: Path) -> None:
    with opened(on_gpu(clip)) as source:
        assert [number(picture) for picture in source.pictures()] == list(range(FRAMES))
        assert source.notes == (
            "hardware: cuda: libcuda.so.1 is missing: install NVIDIA's driver; decoding on the CPU",
        )


@needs_no_gpu
def test_libav_itself_refuses_without_a_gpu(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's library may be there and no GPU: libav's own refusal is a note as well."""
    monkeypatch.setattr(hardware, "_align_primary", lambda gpu: None)
    with opened(on_gpu(clip)) as source:
        assert [number(picture) for picture in source.pictures()] == list(range(FRAMES))
        (note,) = source.notes
    assert note.startswith("hardware: cuda: libav opens no decoder on GPU 0: ")
    assert note.endswith("; decoding on the CPU")
    assert "\n" not in note


@needs_no_gpu
def test_a_codec_that_no_gpu_knows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_align_primary", lambda gpu: None)
    path = make(tmp_path / "a.mkv", Clip(codec="ffv1", frames=5))
    with opened(on_gpu(path)) as source:
        assert [number(picture) for picture in source.pictures()] == list(range(5))
        assert source.notes == ("hardware: cuda: no GPU decodes ffv1; decoding on the CPU",)


def test_where_the_model_runs_on_no_gpu_none_is_asked(clip: Path, nvdec: Nvdec) -> None:
    """Silently, unless it was asked for by name; `none` is silent anywhere."""
    told = {
        SourceRequest(str(clip)): (),
        SourceRequest(str(clip), hardware=Hardware.NONE, gpu=0): (),
        SourceRequest(str(clip), hardware=Hardware.AUTO, gpu=0): (),
        SourceRequest(str(clip), hardware=Hardware.CUDA): (
            "hardware: cuda: the model runs on no GPU, where its pictures would be wanted; decoding on the CPU",
        ),
    }
    for request, notes in told.items():
        with opened(request) as source:
            picture = next(source.pictures())
            assert source.notes == notes
            assert picture.device is None
    assert not nvdec.made


@pytest.mark.slow
@needs_no_gpu
@pytest.mark.parametrize("reader", [Reader.OWN, Reader.LIBAV])
def test_a_camera_is_decoded_on_the_processor_where_there_is_no_gpu(film: Film, reader: Reader) -> None:
    with Camera(film.units, PACED) as camera, opened(on_gpu(camera.url, reader=reader)) as source:
        picture = next(source.pictures())
        assert number(picture) is not None
        assert source.notes == (
            "hardware: cuda: libcuda.so.1 is missing: install NVIDIA's driver; decoding on the CPU",
        )


# -- where there is one: a stand-in for NVDEC --------------------------------------------------------------


def settled(nvdec: Nvdec) -> None:
    """All that the decoder has queued is done."""
    while nvdec.device.decoding:
        nvdec.device.decoding.pop(0)()


@pytest.mark.slow
def test_pictures_stay_on_the_gpu(clip: Path, nvdec: Nvdec) -> None:
    """With all that is known of them, in order, delayed pictures too; none is fetched unless somebody wants it."""
    with opened(on_gpu(clip)) as source, opened(SourceRequest(str(clip))) as plain:
        seen = list(source.pictures())
        assert source.notes == ()
        wanted = list(plain.pictures())
        (decoder,) = nvdec.made
        assert not any(frame.downloads for frame in decoder.frames)
        assert len(seen) == FRAMES
        for one, other in zip(seen, wanted, strict=True):
            assert one.device is not None
            assert (one.planes, one.layout) == ((), Layout.NV12)
            assert (one.device.width, one.device.height, one.device.luma_pitch) == (320, 240, PITCH)
            for name in (
                "matrix",
                "full_range",
                "rotation",
                "width",
                "height",
                "sar",
                "pts",
                "keyframe",
                "corrupt",
            ):
                assert getattr(one, name) == getattr(other, name), name
            luma, chroma = one.on_host().planes
            np.testing.assert_array_equal(luma, other.planes[0])
            np.testing.assert_array_equal(chroma[..., 1], other.planes[2])


@pytest.mark.parametrize("reader", [Reader.OWN, Reader.LIBAV])
def test_a_cameras_pictures_stay_on_the_gpu(film: Film, nvdec: Nvdec, reader: Reader) -> None:
    with Camera(film.units, PACED) as camera, opened(on_gpu(camera.url, reader=reader)) as source:
        pictures = [picture for _, picture in zip(range(20), source.pictures(), strict=False)]
        assert all(picture.device is not None for picture in pictures)
        numbers = [number(picture) for picture in pictures]
        assert numbers == [(numbers[0] or 0) + step for step in range(20)]
        assert source.codec == "h264"
        assert source.notes == ()


@pytest.mark.parametrize("chosen", [{"refuse_from": 0}, {"kind": "p010le"}, {"kind": "yuv444p"}])
def test_a_stream_that_the_gpu_does_not_take_begins_anew_on_the_processor(
    clip: Path, nvdec: Nvdec, chosen: dict[str, Any]
) -> None:
    nvdec.chosen = chosen
    with opened(on_gpu(clip)) as source:
        assert [number(picture) for picture in source.pictures()] == list(range(FRAMES))
        (note,) = source.notes
        assert source.damaged == 0
    what = chosen.get("kind")
    said = f"its pictures are {what} there" if what else "the GPU does not decode this stream"
    assert said in note
    assert note.endswith("decoding on the CPU")


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1, 20, 40, FRAMES - 2])
def test_pictures_that_are_refused_come_from_the_processor(clip: Path, nvdec: Nvdec, at: int) -> None:
    """From the very next one on while all packets are kept, later from the next keyframe on: each picture once."""
    with opened(on_gpu(clip)) as source:
        pictures: Iterator[Picture] = source.pictures()
        seen: list[Picture] = []
        for picture in pictures:
            seen.append(picture)
            if len(seen) == at + 1:
                assert picture.device is not None
                for _ in range(2):
                    picture.device.refuse("it differs")
        settled(nvdec)
        assert [number(picture) for picture in seen] == list(range(FRAMES))
        assert source.notes == ("hardware: it differs; decoding on the CPU",)
        assert source.damaged == 0
    on_device = [picture.device is not None for picture in seen]
    turned = on_device.index(False) if False in on_device else FRAMES
    assert all(on_device[:turned])
    assert not any(on_device[turned:])
    if at < 20:
        assert turned == at + 1
    elif at < FRAMES - 2:
        # The clip has a keyframe every twelfth picture; packets come some pictures ahead of these.
        assert at + 1 <= turned <= at + 24


@pytest.mark.slow
def test_a_gpu_that_is_lost_on_the_way_is_given_up_at_a_keyframe(tmp_path: Path, nvdec: Nvdec) -> None:
    nvdec.chosen = {"refuse_from": 40}
    path = make(tmp_path / "a.mp4", Clip(frames=120))
    with opened(on_gpu(path)) as source:
        seen = [number(picture) for picture in source.pictures()]
        (note,) = source.notes
        assert source.damaged == 32, "until thirty in a row failed, and to the next keyframe"
    assert seen == [*range(40), *range(72, 120)]
    assert note.startswith("hardware: nothing decodes on the GPU any more (")


def test_what_libav_is_asked_for(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is never left in silence, and pictures that stay there. PyAV's own classes are recorded."""
    made: dict[str, Any] = {}
    real = av.CodecContext.create

    class Recorded:
        def __init__(self, kind: str, **asked: Any) -> None:
            made.update(asked, kind=kind)

    class Recording:
        @staticmethod
        def create(codec: Any, mode: str, hwaccel: Recorded) -> Any:
            assert isinstance(hwaccel, Recorded)
            made["codec"] = codec.name
            return real(codec, mode)

    monkeypatch.setattr(hardware, "_align_primary", lambda gpu: None)
    monkeypatch.setattr(hardware, "HWAccel", Recorded)
    monkeypatch.setattr(hardware.av, "CodecContext", Recording)
    with av.open(str(clip)) as container:
        software = container.streams.video[0].codec_context
        with pytest.raises(hardware.NoHardwareError, match="no GPU decodes h264"):
            hardware.accelerated(software, 1)
    assert made == {
        "kind": "cuda",
        "device": 1,
        "allow_software_fallback": False,
        "is_hw_owned": True,
        "codec": "h264",
    }


class Driver:
    """The functions of libcuda that are called before libav is. failing: the one that returns an error."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.asked: list[tuple[str, int]] = []

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._asked("cuInit", flags)

    def cuDeviceGet(self, handle: Any, gpu: int) -> int:  # noqa: N802
        handle._obj.value = 70 + gpu
        return self._asked("cuDeviceGet", gpu)

    def cuDevicePrimaryCtxSetFlags_v2(self, handle: Any, flags: int) -> int:  # noqa: N802
        assert handle.value == 71
        return self._asked("cuDevicePrimaryCtxSetFlags_v2", flags)

    def _asked(self, what: str, number: int) -> int:
        self.asked.append((what, number))
        return 100 if what == self.failing else 0


def test_the_primary_context_is_made_ready_to_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libav wants it: it refuses a context that is in use and waits in another way than by blocking (4)."""
    driver = Driver()
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: {"libcuda.so.1": driver}[name])
    hardware._align_primary(1)
    assert driver.asked == [("cuInit", 0), ("cuDeviceGet", 1), ("cuDevicePrimaryCtxSetFlags_v2", 4)]
    for failing in [name for name, _ in driver.asked]:
        monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name, failing=failing: Driver(failing))
        with pytest.raises(hardware.NoHardwareError, match=r"GPU 1 cannot be shared with the model .* 100\)"):
            hardware._align_primary(1)


# -- on a GPU ------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    "clip",
    [
        Clip(width=1920, height=1080, gop=30, b_frames=2),
        Clip(width=642, height=362),
        Clip("libx265", width=1280, height=720, full_range=True, matrix="bt709"),
    ],
    ids=lambda clip: f"{clip.codec}-{clip.width}",
)
def test_nvdec_decodes_what_libav_decodes(tmp_path: Path, clip: Clip) -> None:
    """Bit for bit, with the same colours and times; CUDA's context is in use already, as the daemon's is."""
    libraries.load(libraries.CUDA)
    with CudaMemory(0) as memory:
        memory.finish()
        path = make(tmp_path / "a.mp4", clip)
        with opened(on_gpu(path)) as source, opened(SourceRequest(str(path))) as plain:
            for one, other in zip(source.pictures(), plain.pictures(), strict=True):
                assert one.device is not None, source.notes
                luma, chroma = one.on_host().planes
                for got, wanted in zip((luma, chroma[..., 0], chroma[..., 1]), other.planes, strict=True):
                    np.testing.assert_array_equal(got, wanted)
                for name in ("matrix", "full_range", "pts", "keyframe", "width", "height"):
                    assert getattr(one, name) == getattr(other, name), name
            assert source.notes == ()


@pytest.mark.gpu
@needs_gpu
def test_ten_bits_are_decoded_on_the_processor(tmp_path: Path) -> None:
    libraries.load(libraries.CUDA)
    path = make(tmp_path / "a.mp4", Clip("libx265", width=640, height=360, pix_fmt="yuv420p10le"))
    with opened(on_gpu(path)) as source:
        assert [number(picture) for picture in source.pictures()] == list(range(30))
        assert len(source.notes) == 1
        assert source.notes[0].endswith("; decoding on the CPU")
