"""The letterbox as a graph gives a model the picture that the letterbox on the processor gives it.

Run on ONNX Runtime's CPU provider over planes as NVDEC leaves them: lines longer than the picture, found by address.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
import pytest
from av.video.reformatter import VideoReformatter

from streamd.core.picture import Layout, Matrix, Picture
from streamd.models.contract import Array, Fit, InputContract, InputShape, Order, Placement
from streamd.models.device_letterbox import MOST_DIFFERENCE
from streamd.models.letterbox_graph import CHROMA, LUMA, PIXELS, Form, letterbox_graph
from streamd.models.preprocess import Letterbox
from streamd.sources.libav.planes import Arrival, PlaneViews, picture_of
from tests.models.test_preprocess import RAW, ULTRALYTICS, active, shape, soft
from tests.support.clips import Clip, make
from tests.support.reference_data import folder, needs_data

pytestmark = pytest.mark.slow

MEAN = (0.485, 0.456, 0.406)
IMAGENET = InputContract(Order.RGB, 1 / 255, MEAN, (0.229, 0.224, 0.225), Fit.STRETCH, 0)


def pitched(plane: Array, pitch: int, seed: int) -> Array:
    """The plane as NVDEC leaves it: [h, pitch], with anything at all behind the picture."""
    lines = plane.reshape(len(plane), -1)
    held = np.random.default_rng(seed).integers(0, 256, (len(plane), pitch), np.uint8)
    held[:, : lines.shape[1]] = lines
    return held


def form_of(picture: Picture, pitch: int) -> Form:
    height, width = picture.planes[0].shape
    return Form(width, height, pitch, pitch, picture.matrix, picture.full_range, picture.rotation)


def by_graph(picture: Picture, contract: InputContract, into: InputShape) -> tuple[Array, Placement]:
    """What the graph makes of the picture's two planes, found by their addresses."""
    pitch = -(-(picture.planes[0].shape[1] + 1) // 512) * 512  # NVDEC's are whole multiples of 512
    form = form_of(picture, pitch)
    placement = Letterbox(contract, into).place(picture.width, picture.height, picture.sar)
    session: Any = onnxruntime.InferenceSession(
        letterbox_graph(form, placement, contract, into), providers=["CPUExecutionProvider"]
    )
    luma, chroma = (pitched(plane, pitch, seed) for seed, plane in enumerate(picture.planes))
    pixels = np.full((1, *into.picture), 77, into.dtype)
    binding = session.io_binding()
    binding.bind_input(LUMA, "cpu", 0, np.uint8, form.luma, luma.ctypes.data)
    binding.bind_input(CHROMA, "cpu", 0, np.uint8, form.chroma, chroma.ctypes.data)
    binding.bind_output(PIXELS, "cpu", 0, into.dtype, [1, *into.picture], pixels.ctypes.data)
    session.run_with_iobinding(binding)
    return pixels[0], placement


def by_letterbox(picture: Picture, contract: InputContract, into: InputShape) -> Array:
    pixels = np.zeros(into.picture, into.dtype)
    Letterbox(contract, into).write(picture, pixels, None)
    return pixels


def steps(values: Array, contract: InputContract, into: InputShape) -> Array:
    """The pixels that these values stand for: [3, H, W], 0 to 255."""
    channels = (
        np.asarray(values, np.float64) if into.channels_first else np.moveaxis(values.astype(float), -1, 0)
    )
    gain, shift = contract.gain_and_shift()
    return (channels - shift.reshape(3, 1, 1)) / gain.reshape(3, 1, 1)


def error_of(picture: Picture, contract: InputContract, into: InputShape) -> Array:
    got, _ = by_graph(picture, contract, into)
    wanted = by_letterbox(picture, contract, into)
    assert got.dtype == wanted.dtype
    return np.abs(steps(got, contract, into) - steps(wanted, contract, into))


@pytest.mark.long
@pytest.mark.parametrize("size", [(1080, 1920), (720, 1280), (241, 333), (100, 60), (640, 640), (2160, 3840)])
@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_size_and_fit_equals_the_letterbox(size: tuple[int, int], fit: Fit, dtype: str) -> None:
    picture = soft(*size, Layout.NV12)
    error = error_of(
        picture, replace(ULTRALYTICS if dtype == "float32" else RAW, fit=fit), shape(dtype=dtype)
    )
    assert error.mean() < 0.6
    assert error.max() < 4.5


@pytest.mark.long
@pytest.mark.parametrize("matrix", list(Matrix))
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("size", [(1080, 1920), (241, 333)])
def test_every_colour_equals_the_letterbox(
    matrix: Matrix, full_range: bool, order: Order, size: tuple[int, int]
) -> None:
    picture = replace(soft(*size, Layout.NV12), matrix=matrix, full_range=full_range)
    error = error_of(picture, replace(RAW, order=order), shape())
    assert error.mean() < 0.6


def test_a_wrong_matrix_range_or_order_would_show() -> None:
    """The bound of the tests above is one: pictures of other colours are beyond it."""
    picture = soft(1080, 1920, Layout.NV12)
    wanted = by_letterbox(picture, RAW, shape()).astype(float)
    for other, contract in (
        (replace(picture, matrix=Matrix.BT709), RAW),
        (replace(picture, full_range=True), RAW),
        (picture, replace(RAW, order=Order.BGR)),
    ):
        assert np.abs(by_graph(other, contract, shape())[0] - wanted).mean() > 1


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("size", [(360, 640), (1080, 1920)])
def test_pictures_are_turned_as_the_letterbox_turns_them(rotation: int, size: tuple[int, int]) -> None:
    error = error_of(soft(*size, Layout.NV12, rotation), RAW, shape())
    assert error.mean() < 0.6


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_every_form_of_input_is_filled(first: bool, dtype: str) -> None:
    contract = IMAGENET if dtype != "uint8" else replace(RAW, fill=9)
    error = error_of(soft(720, 1280, Layout.NV12), contract, shape(320, 256, dtype, first))
    assert error.mean() < 0.6


def test_a_model_that_takes_scaled_bytes_gets_them() -> None:
    contract = replace(RAW, scale=0.5, mean=(-3.0, 0.0, 10.0), std=(1.0, 2.0, 0.5))
    picture, into = soft(720, 1280, Layout.NV12), shape()
    got, _ = by_graph(picture, contract, into)
    wanted = by_letterbox(picture, contract, into)
    assert np.abs(got.astype(float) - wanted).mean() < 0.6


def test_pixels_that_are_not_square_and_borders() -> None:
    """The border is the fill to the last pixel, and the picture begins where the placement says."""
    picture = replace(soft(576, 720, Layout.NV12), sar=Fraction(64, 45))
    contract = replace(RAW, fill=114)
    got, placement = by_graph(picture, contract, shape())
    wanted = by_letterbox(picture, contract, shape())
    top, bottom = int(placement.offset_y), int(placement.offset_y) + placement.height
    assert (placement.width, placement.height) == (640, 360)
    for border in (got[:, :top], got[:, bottom:]):
        assert border.size
        assert (border == 114).all()
    assert np.abs(got.astype(float) - wanted).mean() < 0.6


@pytest.mark.parametrize(
    "clip",
    [
        Clip(width=1920, height=1080, matrix="bt709"),
        Clip(width=1280, height=720, matrix="bt601", full_range=True),
        Clip(width=640, height=360, matrix="bt2020"),
    ],
    ids=lambda clip: f"{clip.width}x{clip.height}-{clip.matrix}",
)
def test_decoded_pictures_equal_the_letterbox(tmp_path: Path, clip: Clip) -> None:
    """H.264, decoded on the processor, as the two planes that NVDEC gives: sharp edges and all."""
    path = make(tmp_path / "clip.mp4", replace(clip, frames=3))
    views, converter = PlaneViews(), VideoReformatter()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            planar = picture_of(views, frame, 0.0, None, Arrival.now(), corrupt=False)
            frame = converter.reformat(frame, format="nv12")
            semi = picture_of(views, frame, 0.0, None, Arrival.now(), corrupt=False)
            semi = replace(semi, matrix=planar.matrix, full_range=planar.full_range)
            for part in range(2):
                np.testing.assert_array_equal(planar.planes[1 + part], semi.planes[1][..., part])
            got, _ = by_graph(semi, RAW, shape())
            assert np.abs(got.astype(float) - by_letterbox(planar, RAW, shape())).mean() < 1


@needs_data
@pytest.mark.parametrize("name", ["traffic_1080p_short.mp4", "kitchen_720p.mp4", "vehicles_hevc.mp4"])
def test_pictures_of_real_cameras_equal_the_letterbox(name: str) -> None:
    """For the self-check there has to be room between these and a wrong picture (MOST_DIFFERENCE)."""
    root = folder()
    assert root is not None
    views, converter = PlaneViews(), VideoReformatter()
    with av.open(str(root / "videos" / name)) as container:
        frame = next(container.decode(video=0))
        planar = picture_of(views, frame, 0.0, None, Arrival.now(), corrupt=False)
        frame = converter.reformat(frame, format="nv12")
        semi = picture_of(views, frame, 0.0, None, Arrival.now(), corrupt=False)
    semi = replace(semi, matrix=planar.matrix, full_range=planar.full_range)
    got, placement = by_graph(semi, RAW, shape())
    off = np.abs(got.astype(float) - by_letterbox(planar, RAW, shape()))
    assert active(off, placement).mean() < 1 < MOST_DIFFERENCE
    wrong, _ = by_graph(replace(semi, full_range=not semi.full_range), RAW, shape())
    off = np.abs(wrong.astype(float) - by_letterbox(planar, RAW, shape()))
    assert active(off, placement).mean() > MOST_DIFFERENCE
