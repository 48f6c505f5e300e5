"""Real clips and pictures: complete, in PyAV's order, upright; and told when they are cut."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import numpy as np
import pytest

from streamd.models.colour import upright_bgr
from streamd.sources import open_source
from tests.support.readings import cut, read, request
from tests.support.reference_data import data_root, needs_data

CLIPS = sorted(path.name for path in (data_root() / "videos").iterdir()) if data_root() else ["none"]
# Every frame of every clip is compared in tests/cli/test_real_data.py; here the short ones, their pixels as well.
SHORT = [
    name for name in CLIPS if (root := data_root()) and (root / "videos" / name).stat().st_size < 800_000
]


@pytest.mark.long
@needs_data
@pytest.mark.parametrize("name", SHORT or ["none"])
def test_real_clips_are_complete_and_come_whole(name: str) -> None:
    root = data_root()
    assert root is not None
    path = root / "videos" / name
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        expected = [
            (None if f.pts is None else round(float(f.pts * stream.time_base), 6), _sum(f))
            for f in container.decode(stream)
        ]
    for threads in (1, 2):
        with open_source(request(path, threads=threads), threading.Event()) as source:
            ours = [(picture.pts, int(picture.planes[0].sum())) for picture in source.pictures()]
            assert (source.width, source.height) == (626, 360) or "rot90" not in name
        assert ours == expected


def _sum(frame: av.VideoFrame) -> int:
    plane = frame.planes[0]
    return int(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width].sum())


@pytest.mark.long
@needs_data
@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", CLIPS)
def test_real_clips_cut_short_are_told(tmp_path: Path, name: str, share: float) -> None:
    root = data_root()
    assert root is not None
    copy = tmp_path / name
    copy.write_bytes((root / "videos" / name).read_bytes())
    _, _, error = read(cut(copy, share))
    assert error is not None


@needs_data
def test_a_clip_held_sideways_comes_upright() -> None:
    root = data_root()
    assert root is not None
    turned, straight = (
        next(open_source(request(root / "videos" / name), threading.Event()).pictures())
        for name in ("pedestrians_rot90.mp4", "pedestrians_626x360.mp4")
    )
    assert turned.rotation == 90
    difference = upright_bgr(turned).astype(float) - upright_bgr(straight)
    assert np.abs(difference).mean() < 6


@needs_data
def test_real_pictures_are_complete() -> None:
    root = data_root()
    assert root is not None
    for path in (root / "images").iterdir():
        with open_source(request(path), threading.Event()) as source:
            assert len(list(source.pictures())) == 1
