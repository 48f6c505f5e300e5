"""The films that cameras play here."""

from __future__ import annotations

import pytest

from tests.support.clips import Clip, make
from tests.support.rtsp_camera import units_of
from tests.support.rtsp_film import FRAMES, GOP, Film
from tests.support.rtsp_reading import decoded


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Film]:
    folder = tmp_path_factory.mktemp("film")
    clips = {
        name: make(folder / f"{name}.mp4", Clip(codec, frames=FRAMES, gop=GOP))
        for name, codec in {"h264": "libx264", "hevc": "libx265"}.items()
    }
    return {name: Film(units_of(clip), decoded(clip)) for name, clip in clips.items()}


@pytest.fixture(scope="module")
def film(films: dict[str, Film]) -> Film:
    return films["h264"]
