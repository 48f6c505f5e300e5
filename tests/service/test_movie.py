"""The annotated MP4: its size, shape and times, and what is drawn where."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.clips import Clip, make
from tests.support.command import run_inline
from tests.support.number_model import make_number_model


def movie_of(clip: Path, tmp_path: Path) -> Path:
    movie = tmp_path / "boxes.mp4"
    make_number_model(tmp_path / "number.onnx")
    done = run_inline("detect", clip, "-m", tmp_path / "number.onnx", "--video", movie)
    assert (done.returncode, done.stderr) == (0, "")
    return movie


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


@pytest.mark.slow
def test_odd_sizes_oblong_pixels_and_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.24, 1.0, 1.52]
    odd = make(tmp_path / "odd.mkv", Clip(codec="ffv1", width=321, height=241, frames=6, times=times))
    with av.open(str(movie_of(odd, tmp_path))) as container:
        stream = container.streams.video[0]
        # 4:2:0 needs even sizes.
        assert (stream.width, stream.height) == (322, 242)
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(times, abs=0.001)
    (tmp_path / "boxes.mp4").unlink()
    oblong = make(tmp_path / "oblong.mp4", Clip(frames=3, sar=Fraction(2, 1)))
    with av.open(str(movie_of(oblong, tmp_path))) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2


def test_a_box_is_drawn_round_its_object_and_nowhere_else(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=3))
    plain, drawn = pictures(clip)[2], pictures(movie_of(clip, tmp_path))[2]
    # Number 2 is bit 1, the second cell from the right: x 280 to 300, y 0 to 105.
    change = np.abs(plain - drawn).max(axis=2)
    for edge in (change[40:100, 280], change[40:100, 299], change[104, 284:296]):
        assert edge.mean() > 60, edge
    for rest in (change[40:100, 284:296], change[40:100, 304:], change[40:100, :276], change[110:]):
        assert rest.mean() < 8, rest
