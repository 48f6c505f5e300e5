"""The tests' own camera, shown to be a good one by libav before it is used for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Stream, units_of

FRAMES = 50
CODECS = {"h264": "libx264", "hevc": "libx265"}
USER, PASSWORD = "viewer", "p@s/s:w#o?r%d! é"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("camera")
    return {name: make(folder / f"{name}.mp4", Clip(codec, frames=FRAMES)) for name, codec in CODECS.items()}


def pictures(url: str, transport: str = "") -> Iterator[NDArray[np.generic]]:
    options = {"rtsp_transport": transport, "timeout": "5000000"} if transport else {}
    with av.open(url, options=options) as source:
        for frame in source.decode(video=0):
            yield frame.to_ndarray()


def same(clip: Path, camera: Camera, transport: str) -> bool:
    seen, right = list(pictures(camera.url, transport)), list(pictures(str(clip)))
    return len(seen) == FRAMES and all(map(np.array_equal, seen, right))


def quick(**options: object) -> Stream:
    return Stream(rate=100, loop=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", list(CODECS))
def test_libav_decodes_the_clip_bit_for_bit(clips: dict[str, Path], codec: str, transport: str) -> None:
    units = units_of(clips[codec])
    assert (units.codec, len(units), units.rate, units.width) == (codec, FRAMES, 25, 320)
    with Camera(units, quick(mtu=500, first_sequence=65_500)) as camera:
        assert same(clips[codec], camera, transport)
        assert camera.until(lambda: len(camera.sent) == FRAMES and camera.connected == 0)
        assert [sent.index for sent in camera.sent] == list(range(FRAMES))
        assert camera.methods()[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
