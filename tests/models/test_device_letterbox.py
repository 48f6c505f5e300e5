"""Pictures that a GPU has decoded come into the model's input there: waited for, checked, and given up in the open.

There is no GPU to be had here: the device is host memory that ONNX Runtime's CPU provider computes in. The
last tests, marked `gpu`, do the real thing where there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamd.core.picture import DevicePlanes, Layout, Picture
from streamd.models import device as device_module
from streamd.models import libraries
from streamd.models.colour import upright_bgr
from streamd.models.contract import Array, InputContract, InputShape
from streamd.models.creation import NotHereError
from streamd.models.device import CudaDevice
from streamd.models.device_letterbox import MOST_DIFFERENCE, DeviceLetterbox
from streamd.models.letterbox_graph import letterbox_graph
from streamd.models.libraries import LibraryError
from streamd.models.memory import DeviceArray
from streamd.models.preprocess import Letterbox
from streamd.sources import SourceRequest, open_source
from streamd.sources.libav import hardware
from streamd.sources.source import Hardware
from tests.models.test_letterbox_graph import IMAGENET, by_graph, form_of, pitched, steps
from tests.models.test_preprocess import RAW, shape, soft
from tests.support.clips import Clip, make
from tests.support.gpu import needs_gpu
from tests.support.pretended_nvdec import PretendedDevice

FORMS: list[tuple[InputContract, InputShape]] = [
    (RAW, shape()),
    (RAW, shape(first=False)),
    (IMAGENET, shape(416, 320, "float32")),
    (IMAGENET, shape(416, 320, "float16")),
]


class Decoded:
    """A picture on the device, and what became of it. late: written only when decoders are waited for."""

    def __init__(self, picture: Picture, device: PretendedDevice, *, late: bool = True) -> None:
        height, width = picture.planes[0].shape
        pitch = -(-(width + 1) // 512) * 512
        whole = [pitched(plane, pitch, seed) for seed, plane in enumerate(picture.planes)]
        self.held = [np.full_like(plane, 0xA5) for plane in whole]
        if late:
            device.decoding.append(self._come(whole))
        else:
            self._come(whole)()
        self.downloads = 0
        self.refused: list[str] = []

        def download() -> tuple[Array, ...]:
            self.downloads += 1
            return picture.planes

        luma, chroma = (plane.ctypes.data for plane in self.held)
        planes = DevicePlanes(0, width, height, luma, pitch, chroma, pitch, download, self.refused.append)
        self.picture = replace(picture, planes=(), device=planes)

    def _come(self, whole: list[Array]) -> Callable[[], None]:
        def come() -> None:
            for held, plane in zip(self.held, whole, strict=True):
                held[...] = plane

        return come


def moving(step: int, size: tuple[int, int] = (360, 640)) -> Picture:
    picture = soft(*size, Layout.NV12)
    return replace(picture, planes=tuple(np.roll(plane, 16 * step, 1) for plane in picture.planes))


@pytest.mark.long
@pytest.mark.parametrize(("contract", "into"), FORMS)
def test_a_picture_on_the_device_is_what_the_letterbox_writes(
    contract: InputContract, into: InputShape
) -> None:
    device = PretendedDevice()
    box, plain = DeviceLetterbox(contract, into, device), Letterbox(contract, into)
    there: DeviceArray | None = None
    for step, size in enumerate([(360, 640), (360, 640), (1080, 1920), (241, 333)]):
        decoded = Decoded(moving(step, size), device)
        written = box.write(decoded.picture, there)
        assert written is not None, decoded.refused
        before, (there, placement) = there, written
        assert before in (None, there), "the same memory again"
        wanted = np.zeros(into.picture, into.dtype)
        assert plain.write(moving(step, size), wanted, None) == placement
        got = there.fetch()
        assert got.dtype == into.dtype
        assert np.abs(steps(got, contract, into) - steps(wanted, contract, into)).mean() < 0.6
    assert len(device.graphs) == 3, "one session a form of picture"
    assert len(device.memories) == 1


@pytest.mark.slow
def test_no_picture_is_read_before_the_decoder_has_written_it() -> None:
    """The hazard itself: a decoder returns while its copy is queued. Each picture is another one, bit for bit."""
    device = PretendedDevice()
    box = DeviceLetterbox(RAW, shape(), device)
    for step in range(12):
        late = box.write(Decoded(moving(step), device).picture, None)
        assert not device.decoding, "all that was queued has been waited for"
        sooner = box.write(Decoded(moving(step), device, late=False).picture, None)
        assert late is not None
        assert sooner is not None
        np.testing.assert_array_equal(late[0].fetch(), sooner[0].fetch())


def test_a_picture_that_is_not_waited_for_is_noticed() -> None:
    """The stand-in does what it is for: without the waiting the first picture is refused."""
    device = PretendedDevice()
    box = DeviceLetterbox(RAW, shape(), device)
    made = device.memory()
    made.await_decoders = lambda: None  # type: ignore[method-assign]
    device.memory = lambda: made  # type: ignore[method-assign]
    decoded = Decoded(moving(0), device)
    assert box.write(decoded.picture, None) is None
    (why,) = decoded.refused
    assert why.startswith("picture 0 differs from the processor's by ")


def test_pictures_are_fetched_for_the_checks_and_no_other() -> None:
    device = PretendedDevice()
    box = DeviceLetterbox(RAW, shape(64, 64), device)
    fetched, there = [], None
    for number in range(103):
        decoded = Decoded(moving(number, (36, 64)), device)
        written = box.write(decoded.picture, there)
        assert written is not None
        there = written[0]
        if decoded.downloads:
            fetched.append(number)
    assert fetched == [0, 100]


def test_a_device_that_writes_something_else_is_given_up() -> None:
    """The first picture, or one later on; after that nothing is tried, and nothing told twice."""
    device = PretendedDevice()
    box = DeviceLetterbox(RAW, shape(64, 64), device)
    told: list[str] = []
    for number in range(105):
        decoded = Decoded(moving(number, (36, 64)), device)
        if number == 100:  # the driver dies, say
            decoded.held[0][...] = 0
            device.decoding.clear()
        written = box.write(decoded.picture, None)
        assert (written is None) == (number >= 100)
        told += decoded.refused
    assert len(told) == 1
    assert told[0].startswith("picture 100 differs from the processor's by ")
    assert float(told[0].split(" by ")[1].split()[0]) > MOST_DIFFERENCE


class Failing(PretendedDevice):
    """A device of which one thing does not work."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def memory(self) -> Any:
        if self._what == "memory":
            raise LibraryError("there is no such GPU (CUDA error 101)")
        memory = super().memory()
        if self._what == "array":
            memory.array = _raise(LibraryError("no 1228800 bytes of GPU memory (CUDA error 2)"))  # type: ignore[method-assign]
        if self._what == "wait":
            memory.await_decoders = _raise(LibraryError("a hardware decoder failed (CUDA error 700)"))  # type: ignore[method-assign]
        return memory

    def session(self, graph: bytes) -> Any:
        if self._what == "session":
            raise NotHereError("no session could be made: out of memory")
        session = super().session(graph)
        if self._what == "run":
            session.run_with_iobinding = _raise(RuntimeError("CUDA failure 700:\n an illegal memory access"))
        return session


def _raise(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("memory", "there is no such GPU (CUDA error 101)"),
        ("array", "no 1228800 bytes of GPU memory (CUDA error 2)"),
        ("wait", "a hardware decoder failed (CUDA error 700)"),
        ("session", "no session could be made: out of memory"),
        ("run", "CUDA failure 700: an illegal memory access"),
    ],
)
def test_whatever_fails_is_told_in_one_line_and_the_processor_goes_on(what: str, told: str) -> None:
    device = Failing(what)
    box = DeviceLetterbox(RAW, shape(), device)
    decoded = Decoded(moving(0), device, late=False)
    assert box.write(decoded.picture, None) is None
    assert decoded.refused == [told]
    pixels = np.zeros((3, 640, 640), np.uint8)
    Letterbox(RAW, shape()).write(decoded.picture, pixels, None)
    wanted = np.zeros_like(pixels)
    Letterbox(RAW, shape()).write(moving(0), wanted, None)
    np.testing.assert_array_equal(pixels, wanted)


def test_pictures_of_another_gpu_and_of_none_are_left_to_the_processor() -> None:
    box = DeviceLetterbox(RAW, shape(), PretendedDevice(number=1))
    decoded = Decoded(moving(0), PretendedDevice())
    assert box.write(decoded.picture, None) is None
    assert box.write(moving(0), None) is None
    assert not decoded.refused, "where it lies is as good as anywhere"


def test_whoever_wants_the_pixels_gets_them_when_they_ask() -> None:
    decoded = Decoded(moving(3), PretendedDevice())
    assert decoded.downloads == 0
    np.testing.assert_array_equal(upright_bgr(decoded.picture), upright_bgr(moving(3)))
    assert decoded.downloads == 1
    assert decoded.picture.device is not None, "the picture itself stays where it is"
    plain = moving(0)
    assert plain.on_host() is plain


def test_streams_of_one_form_share_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Session:
        pass

    def create(graph: bytes, provider: tuple[str, dict[str, str]]) -> Session:
        made.append((graph, provider))
        return Session()

    monkeypatch.setattr(device_module, "create_whole", create)
    device = CudaDevice(1)
    first, other, again = device.session(b"a"), device.session(b"b"), device.session(b"a")
    assert first is again
    assert other is not first
    ((_, (name, options)), _) = made
    assert (name, options["device_id"]) == ("CUDAExecutionProvider", "1")
    del first, again
    device.session(b"a")
    assert [graph for graph, _ in made] == [b"a", b"b", b"a"], "what nobody keeps is made anew"


# -- each picture against a copy of it, on the stand-in and on a GPU --------------------------------------------


def copies_come_out_the_same(device: Any, clip: Path) -> int:
    """Letterbox each picture where the decoder has left it, and once more from a copy that was fetched and sent back.

    The copy is whole beyond doubt: if both come out bit for bit the same, the first was read when it was whole.
    Returns the number of pictures.
    """
    box, other = (DeviceLetterbox(RAW, shape(), device) for _ in range(2))
    memory = device.memory()
    addresses: list[int] = []
    count = 0
    with open_source(
        SourceRequest(str(clip), gpu=device.number, hardware=Hardware.CUDA), threading.Event()
    ) as source:
        for picture in source.pictures():
            planes = picture.device
            assert planes is not None, source.notes
            written = box.write(picture, None)
            assert written is not None, source.notes
            whole = [
                pitched(plane, pitch, 0)
                for plane, pitch in zip(
                    picture.on_host().planes, (planes.luma_pitch, planes.chroma_pitch), strict=True
                )
            ]
            addresses = addresses or [memory.reserve(plane.nbytes) for plane in whole]
            for plane, address in zip(whole, addresses, strict=True):
                memory.upload(plane, address)
            memory.finish()
            there = replace(planes, luma=addresses[0], chroma=addresses[1])
            again = other.write(replace(picture, device=there), None)
            assert again is not None, source.notes
            np.testing.assert_array_equal(written[0].fetch(), again[0].fetch())
            by_processor, _ = by_graph(replace(picture, planes=picture.on_host().planes), RAW, shape())
            assert np.abs(written[0].fetch().astype(int) - by_processor).max() <= 1
            count += 1
    memory.close()
    return count


@pytest.mark.slow
def test_copies_come_out_the_same_on_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = PretendedDevice()
    monkeypatch.setattr(hardware, "accelerated", device.decoder)
    clip = make(tmp_path / "a.mp4", Clip(width=642, height=362, frames=20, b_frames=2))
    assert copies_come_out_the_same(device, clip) == 20


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("beside", [0, 6], ids=["alone", "beside decoders at full speed"])
@pytest.mark.parametrize("size", [(1920, 1080), (642, 362)])
def test_no_picture_is_read_too_soon_on_a_gpu(tmp_path: Path, size: tuple[int, int], beside: int) -> None:
    """Bit for bit, while other decoders keep the default stream as busy as they can."""
    libraries.load(libraries.CUDA)
    clip = make(tmp_path / "a.mp4", Clip(width=size[0], height=size[1], frames=120, gop=30))
    over = threading.Event()

    def decode() -> None:
        while not over.is_set():
            with open_source(SourceRequest(str(clip), gpu=0, hardware=Hardware.CUDA), over) as source:
                for _ in source.pictures():
                    pass

    others = [threading.Thread(target=decode) for _ in range(beside)]
    for thread in others:
        thread.start()
    try:
        assert copies_come_out_the_same(CudaDevice(0), clip) == 120
    finally:
        over.set()
        for thread in others:
            thread.join()


@pytest.mark.gpu
@needs_gpu
def test_the_letterbox_runs_whole_on_cuda() -> None:
    """No node of it on the processor: the session is refused else."""
    libraries.load(libraries.CUDA)
    for rotation, dtype, first in ((0, "uint8", True), (90, "float16", False), (180, "float32", True)):
        into, picture = shape(640, 640, dtype, first), soft(360, 640, Layout.NV12, rotation)
        placement = Letterbox(RAW, into).place(picture.width, picture.height, None)
        session = CudaDevice(0).session(letterbox_graph(form_of(picture, 1024), placement, RAW, into))
        assert session.get_providers()[0] == "CUDAExecutionProvider"
