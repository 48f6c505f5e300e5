"""The letterbox: geometry, colours, number formats, and its price."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamd.core.picture import Layout, Matrix, Picture, Pixels
from streamd.models.colour import upright_bgr
from streamd.models.contract import Array, Fit, InputContract, InputShape, Order, Placement
from streamd.models.preprocess import Letterbox
from streamd.sources import SourceRequest, open_source
from tests.support.clips import Clip, make
from tests.support.reference_data import data_root, needs_data

YOLOX = InputContract(Order.BGR, 1.0, (0, 0, 0), (1, 1, 1), Fit.TOP_LEFT, 114)
ULTRALYTICS = InputContract(Order.RGB, 1 / 255, (0, 0, 0), (1, 1, 1), Fit.CENTER, 114)
RAW = InputContract(Order.RGB, 1.0, (0, 0, 0), (1, 1, 1), Fit.CENTER, 114)


def shape(width: int = 640, height: int = 640, dtype: str = "uint8", first: bool = True) -> InputShape:
    return InputShape("images", width, height, first, np.dtype(dtype), 1)


def soft(height: int, width: int, layout: Layout = Layout.YUV, rotation: int = 0) -> Picture:
    """A picture without sharp edges, 4:2:0 where the layout has chroma."""
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    luma = (120 + 90 * np.sin(columns / width * 9) * np.cos(rows / height * 7)).astype(np.uint8)
    half = np.mgrid[0 : -(-height // 2), 0 : -(-width // 2)].astype(float)
    blue = (128 + 40 * np.sin(half[1] / width * 8)).astype(np.uint8)
    red = (128 + 40 * np.cos(half[0] / height * 6)).astype(np.uint8)
    planes: tuple[Pixels, ...] = {
        Layout.YUV: (luma, blue, red),
        Layout.NV12: (luma, np.stack([blue, red], -1)),
        Layout.GRAY: (luma,),
        Layout.RGB: (np.stack([luma, luma.T[:1, :1] + 0 * luma, 255 - luma], -1),),
    }[layout]
    lying = rotation in (90, 270)
    return Picture(
        planes, layout, Matrix.BT601, layout in (Layout.GRAY, Layout.RGB), rotation,
        height if lying else width, width if lying else height,
        None, 0.0, 0, 0, None, True, False, None,
    )  # fmt: skip


def expected(picture: Picture, order: Order, placement: Placement) -> NDArray[np.uint8]:
    """The usual way: full-size picture, then cv2.resize."""
    bgr = upright_bgr(picture)
    small = cv2.resize(bgr, (placement.width, placement.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(small[..., ::-1] if order is Order.RGB else small, np.uint8)


def active(pixels: Array, placement: Placement) -> Array:
    left, top = int(placement.offset_x), int(placement.offset_y)
    return pixels[:, top : top + placement.height, left : left + placement.width].transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("fit", "source", "target", "placement"),
    [
        # YOLOX: int(W * r), int(H * r), top-left. r = min(416/626, 416/360)
        (Fit.TOP_LEFT, (626, 360), (416, 416), (0, 0, 416, 239)),
        (Fit.TOP_LEFT, (768, 576), (416, 416), (0, 0, 416, 312)),
        # Ultralytics' LetterBox: round, and half the margin rounded at -0.1.
        (Fit.CENTER, (1920, 1080), (640, 640), (0, 140, 640, 360)),
        (Fit.CENTER, (626, 360), (416, 416), (0, 88, 416, 239)),
        (Fit.CENTER, (768, 432), (640, 640), (0, 140, 640, 360)),
        (Fit.CENTER, (100, 100), (640, 352), (144, 0, 352, 352)),
        (Fit.STRETCH, (1920, 1080), (320, 240), (0, 0, 320, 240)),
        # Extremes leave at least one pixel.
        (Fit.CENTER, (4000, 2), (640, 640), (0, 319, 640, 1)),
        (Fit.TOP_LEFT, (1, 9000), (416, 416), (0, 0, 1, 416)),
        (Fit.TOP_LEFT, (640, 640), (640, 640), (0, 0, 640, 640)),
    ],
)
def test_pictures_are_placed_as_the_trainers_placed_them(
    fit: Fit, source: tuple[int, int], target: tuple[int, int], placement: tuple[int, int, int, int]
) -> None:
    place = Letterbox(replace(RAW, fit=fit), shape(*target)).place(*source, None)
    assert (place.offset_x, place.offset_y, place.width, place.height) == placement
    # The far corner of the source lies on the far corner of the picture in the input: boxes map back exactly.
    assert source[0] * place.scale_x + place.offset_x == pytest.approx(placement[0] + placement[2])
    assert source[1] * place.scale_y + place.offset_y == pytest.approx(placement[1] + placement[3])


def test_the_model_sees_the_display_shape_of_pixels_that_are_not_square() -> None:
    # PAL 16:9: 720x576 stored, shown as 1024x576.
    place = Letterbox(RAW, shape()).place(720, 576, Fraction(64, 45))
    assert (place.width, place.height) == (640, 360)
    assert place.scale_x == pytest.approx(640 / 720)
    assert place.scale_y == pytest.approx(360 / 576)


@pytest.mark.long
@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("size", [(1080, 1920), (360, 640), (241, 333), (100, 60), (640, 640), (720, 1280)])
def test_pixels_equal_the_usual_way(layout: Layout, order: Order, size: tuple[int, int]) -> None:
    picture = soft(*size, layout)
    pixels = np.zeros((3, 640, 640), np.uint8)
    place = Letterbox(replace(RAW, order=order), shape()).write(picture, pixels, None)
    error = np.abs(active(pixels, place).astype(float) - expected(picture, order, place))
    assert error.mean() < 1
    assert error.max() <= 6


@pytest.mark.parametrize("size", [(360, 640), (362, 640), (2, 640), (640, 2)])
@pytest.mark.parametrize("layout", [Layout.YUV, Layout.NV12])
def test_a_picture_of_the_inputs_own_size_is_coloured_to_the_bit(
    layout: Layout, size: tuple[int, int]
) -> None:
    """Chroma is repeated, in planes whose lines have gaps, too."""
    picture = soft(*size, layout)
    gappy = []
    for plane in picture.planes:
        wide = np.full((plane.shape[0], plane.shape[1] + 13, *plane.shape[2:]), 77, np.uint8)
        wide[:, : plane.shape[1]] = plane
        gappy.append(wide[:, : plane.shape[1]])
    picture.planes = tuple(gappy)
    pixels = np.zeros((3, *size), np.uint8)
    place = Letterbox(RAW, shape(size[1], size[0])).write(picture, pixels, None)
    np.testing.assert_array_equal(active(pixels, place), expected(picture, Order.RGB, place))


@pytest.mark.long
@pytest.mark.parametrize(
    "clip",
    [
        Clip(matrix="bt709"),
        Clip(matrix="bt2020", pix_fmt="yuv420p10le"),
        Clip(full_range=True),
        Clip(matrix="bt709", full_range=True),
        Clip(codec="rawvideo", pix_fmt="nv12"),
        Clip(pix_fmt="yuv422p"),
        Clip(pix_fmt="yuv444p"),
    ],
    ids=lambda clip: f"{clip.pix_fmt}-{clip.matrix}-{'full' if clip.full_range else 'limited'}",
)
@pytest.mark.parametrize(("first", "order"), [(True, Order.RGB), (False, Order.BGR)])
def test_large_pictures_of_every_colour_equal_the_usual_way(
    tmp_path: Path, clip: Clip, first: bool, order: Order
) -> None:
    path = make(tmp_path / "hd.mkv", replace(clip, width=1920, height=1080, frames=1))
    with av.open(path) as container:
        whole = next(container.decode(video=0)).to_ndarray(format=f"{order}24")
    wanted = cv2.resize(whole, (640, 360), interpolation=cv2.INTER_LINEAR)
    pixels = np.zeros(shape(first=first).picture, np.uint8)
    with open_source(SourceRequest(str(path)), threading.Event()) as source:
        place = Letterbox(replace(RAW, order=order), shape(first=first)).write(
            next(source.pictures()), pixels, None
        )
    got = active(pixels if first else pixels.transpose(2, 0, 1), place)
    # swscale colours 8-bit planes as we do; NV12 and 10 bits take another way in it, which rounds otherwise.
    bound = 1.0 if clip.pix_fmt in ("yuv420p", "yuv422p", "yuv444p") else 1.5
    assert np.abs(got.astype(float) - wanted).mean() < bound


def test_a_picture_of_one_value_is_normalised_too() -> None:
    """The lowest and the highest value are the same: what goes from one to the other has no slope."""
    picture = soft(90, 160, Layout.GRAY)
    for value in (0, 7, 255):
        flat = replace(picture, planes=(np.full((90, 160), value, np.uint8),))
        pixels = np.zeros((3, 128, 128), np.float32)
        contract = replace(ULTRALYTICS, mean=(0.5, 0.25, 0), std=(0.5, 2, 1))
        place = Letterbox(contract, shape(128, 128, "float32")).write(flat, pixels, None)
        wanted = [(value / 255 - mean) / std for mean, std in zip(contract.mean, contract.std, strict=True)]
        assert np.allclose(active(pixels, place), wanted, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize(("height", "width", "side"), [(200, 320, 416), (2160, 3840, 1280)])
def test_turned_pictures_come_out_upright(
    rotation: int, fit: Fit, height: int, width: int, side: int
) -> None:
    picture = soft(height, width, rotation=rotation)
    pixels = np.zeros((3, side, side), np.uint8)
    place = Letterbox(replace(RAW, fit=fit), shape(side, side)).write(picture, pixels, None)
    assert np.abs(active(pixels, place).astype(float) - expected(picture, Order.RGB, place)).mean() < 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("layout", [Layout.YUV, Layout.GRAY])
def test_values_are_normalised_per_channel(first: bool, dtype: str, layout: Layout) -> None:
    mean, std = (
        ((0, 0, 0), (1, 1, 1)) if dtype == "uint8" else ((103.53, 116.28, 123.675), (57.4, 57.1, 58.4))
    )
    contract = InputContract(Order.BGR, 1.0, mean, std, Fit.CENTER, 114)
    picture = soft(90, 160, layout)
    raw = np.zeros((3, 128, 128), np.uint8)
    Letterbox(replace(contract, mean=(0, 0, 0), std=(1, 1, 1)), shape(128, 128)).write(picture, raw, None)
    pixels = np.full(shape(128, 128, first=first).picture, 7, dtype)
    Letterbox(contract, shape(128, 128, dtype, first)).write(picture, pixels, None)
    wanted = (raw - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    got = pixels if first else pixels.transpose(2, 0, 1)
    assert np.abs(got - wanted).max() < (0.002 if dtype == "float16" else 1e-5)
    assert (raw[:, 0] == 114).all()


def test_the_border_is_filled_only_when_the_placement_changed() -> None:
    box, pixels = Letterbox(YOLOX, shape(64, 64)), np.zeros((3, 64, 64), np.uint8)
    first = box.write(soft(64, 32), pixels, None)
    assert (pixels[:, :, 32:] == 114).all()
    pixels[:, :, 32:] = 9  # a witness: stays while nothing changes
    assert box.write(soft(64, 32), pixels, first) == first
    assert (pixels[:, :, 32:] == 9).all()
    # Same scales and offsets, but less of the input covered: what was there must go.
    second = box.write(soft(64, 16), pixels, first)
    assert (second.scale_x, second.offset_x) == (first.scale_x, first.offset_x)
    assert (pixels[:, :, 16:] == 114).all()


def test_a_source_that_changes_its_size_is_followed(tmp_path: Path) -> None:
    box, pixels, place = Letterbox(RAW, shape(160, 160)), np.zeros((3, 160, 160), np.uint8), None
    for size in ((90, 160), (120, 160), (2, 4000), (1, 1), (90, 160)):
        picture = soft(*size)
        place = box.write(picture, pixels, place)
        alone = np.zeros_like(pixels)
        Letterbox(RAW, shape(160, 160)).write(picture, alone, None)
        assert (pixels == alone).all()


def test_no_memory_is_taken_once_warm() -> None:
    box, pixels = Letterbox(ULTRALYTICS, shape(dtype="float32")), np.zeros((3, 640, 640), np.float32)
    picture = soft(720, 1280)
    place = box.write(picture, pixels, None)
    tracemalloc.start()
    for _ in range(3):
        box.write(picture, pixels, place)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numpy converts through a buffer of some kilobytes; the smallest picture in here has 200 000 bytes.
    assert peak < 100_000


KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


@pytest.mark.long
@pytest.mark.parametrize("allocator", [{}, KEEP_PAGES], ids=["fresh-pages", "kept-pages"])
def test_it_costs_a_quarter_of_the_usual_way(
    tmp_path: Path, allocator: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    path = make(tmp_path / "hd.mkv", Clip(width=1920, height=1080, frames=40))
    root = Path(__file__).parents[2]
    # A busy machine takes from the shorter turns more than from the longer ones.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.letterbox_race", str(path)],
            cwd=root,
            env={**os.environ, **allocator},
            capture_output=True,
            check=True,
        )
        results = json.loads(done.stdout)
        record_property("letterbox", results)
        worst = min(results["uint8"]["ratio"], results["float32"]["ratio"])
        if worst >= 4:
            break
    assert worst >= 4, results


@pytest.mark.slow
@needs_data
def test_a_real_1080p_picture_comes_close_to_the_usual_way() -> None:
    root = data_root()
    assert root is not None
    path = str(root / "videos" / "traffic_1080p_short.mp4")
    with av.open(path) as container:
        frames = list(itertools.islice(container.decode(video=0), 5))
    pixels = np.zeros((3, 640, 640), np.uint8)
    with open_source(SourceRequest(path), threading.Event()) as source:
        for frame, picture in zip(frames, source.pictures(), strict=False):
            place = Letterbox(RAW, shape()).write(picture, pixels, None)
            rgb = cv2.resize(frame.to_ndarray(format="rgb24"), (640, 360), interpolation=cv2.INTER_LINEAR)
            assert np.abs(active(pixels, place).astype(float) - rgb).mean() < 1
