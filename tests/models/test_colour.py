"""Colours at full size against PyAV's own rgb24."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from streamd.core.picture import Layout, Matrix
from streamd.models.colour import upright_bgr, yuv_matrix
from streamd.models.contract import Order
from streamd.sources import SourceRequest, open_source
from tests.support.clips import Clip, make

FORMATS = {
    "4:2:0": Clip(),
    "interlaced": Clip(interlaced=True),
    "10-bit": Clip(pix_fmt="yuv420p10le"),
    "10-bit 4:2:2": Clip(codec="ffv1", pix_fmt="yuv422p10le"),
    "full range": Clip(full_range=True),
    "full-range jpeg": Clip(codec="mjpeg", pix_fmt="yuvj420p", full_range=True),
    "bt709": Clip(matrix="bt709"),
    "bt709 full range": Clip(matrix="bt709", full_range=True),
    "bt2020 10-bit": Clip(matrix="bt2020", pix_fmt="yuv420p10le"),
    "bt601": Clip(matrix="bt601"),
    "4:2:2": Clip(pix_fmt="yuv422p"),
    "4:4:4": Clip(pix_fmt="yuv444p"),
    "4:1:1": Clip(codec="ffv1", pix_fmt="yuv411p"),
    "nv12": Clip(codec="rawvideo", pix_fmt="nv12"),
    "packed yuyv": Clip(codec="rawvideo", pix_fmt="yuyv422"),
    "grey": Clip(pix_fmt="gray"),
    "rgb": Clip(codec="ffv1", pix_fmt="bgr0"),
    "alpha": Clip(codec="ffv1", pix_fmt="yuva420p"),
    "odd size": Clip(codec="ffv1", width=321, height=243),
    "odd size 4:2:2": Clip(codec="ffv1", width=319, height=241, pix_fmt="yuv422p"),
    "tiny": Clip(codec="ffv1", width=17, height=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_has_the_colours_that_libav_gives_it(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "clip.mkv", replace(FORMATS[name], frames=3))
    with av.open(path) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with open_source(SourceRequest(str(path)), threading.Event()) as source:
        ours = [upright_bgr(picture)[..., ::-1] for picture in source.pictures()]
    assert len(ours) == len(expected) == 3
    for mine, theirs in zip(ours, expected, strict=True):
        error = np.abs(mine.astype(float) - theirs).mean()
        assert error < 1.5, f"{name}: mean error {error:.2f}/255"


def test_the_matrices_turn_white_black_and_red_into_what_they_are() -> None:
    # Red in BT.709, limited range, is Y 63, Cb 102, Cr 240 (ITU-R BT.709-6, SMPTE colour bars).
    yuv = np.array([[235, 128, 128, 1], [16, 128, 128, 1], [63, 102, 240, 1]])
    rgb = yuv @ yuv_matrix(Matrix.BT709, False, Order.RGB).T + 1  # the matrix ends one step below
    assert np.abs(rgb - [[255, 255, 255], [0, 0, 0], [255, 0, 0]]).max() < 1.5
    bgr = yuv_matrix(Matrix.BT601, True, Order.BGR)
    assert np.allclose(bgr[::-1], yuv_matrix(Matrix.BT601, True, Order.RGB))


def test_planes_are_views_of_the_decoders_memory_and_cannot_be_written(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", Clip(frames=2, width=322))
    with open_source(SourceRequest(str(path)), threading.Event()) as source:
        picture = next(source.pictures())
    assert picture.layout is Layout.YUV
    luma, blue, red = picture.planes
    assert luma.shape == (240, 322)
    assert blue.shape == red.shape == (120, 161)
    assert not luma.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        luma[0, 0] = 1
