"""The tests' own camera, shown to be a good one by libav before it is used for what goes wrong."""

from __future__ import annotations

import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Dress, Faults, Login, Stream, units_of

pytestmark = pytest.mark.slow

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


@pytest.mark.long
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", list(CODECS))
def test_libav_decodes_the_clip_bit_for_bit(clips: dict[str, Path], codec: str, transport: str) -> None:
    units = units_of(clips[codec])
    assert (units.codec, len(units), units.rate, units.width) == (codec, FRAMES, 25, 320)
    with Camera(units, quick(mtu=150, first_sequence=65_500)) as camera:
        assert same(clips[codec], camera, transport)
        assert camera.until(lambda: len(camera.sent) == FRAMES and camera.connected == 0)
        assert [sent.index for sent in camera.sent] == list(range(FRAMES))
        assert camera.methods()[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


@pytest.mark.parametrize("suffix", ["mkv", "264", "265"])
def test_clips_of_every_form_with_b_frames(tmp_path: Path, suffix: str) -> None:
    codec = "libx265" if suffix == "265" else "libx264"
    suffix = {"264": "h264", "265": "hevc"}.get(suffix, suffix)
    clip = make(tmp_path / f"clip.{suffix}", Clip(codec, frames=FRAMES, b_frames=2))
    with Camera(units_of(clip), quick(pace=False)) as camera:
        assert same(clip, camera, "tcp")


GOOD = {
    "audio after": (Stream(audio="after"), Faults()),
    "audio before": (Stream(audio="before"), Faults()),
    "absolute": (Stream(control="absolute"), Faults()),
    "star": (Stream(control="star"), Faults()),
    "query": (Stream(control="query", path="/live?channel=1&subtype=0"), Faults()),
    "relative query": (Stream(control="relative-query"), Faults()),
    "no base": (Stream(content_base=None), Faults()),
    "sprop only": (Stream(in_band=False), Faults()),
    "in-band only": (Stream(sprop=False), Faults()),
    "one by one": (Stream(aggregate=False, reports_s=None, rtp_info=False), Faults()),
    "pieces": (Stream(), Faults(segment=500, coalesce=5)),
    "hand": (Stream(), Faults(lower_case=True, odd_space=True)),
    "dressed": (Stream(), Faults(dress=Dress(padding=7, csrcs=2, extension=b"1234567"))),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", list(GOOD))
def test_what_is_unusual_but_right_is_decoded_alike(clips: dict[str, Path], kind: str) -> None:
    stream, faults = GOOD[kind]
    with Camera(units_of(clips["h264"]), replace(stream, loop=False, rate=400), faults=faults) as camera:
        assert same(clips["h264"], camera, "tcp")


def test_late_packets_over_udp_are_put_right(clips: dict[str, Path]) -> None:
    with Camera(units_of(clips["h264"]), quick(mtu=150), faults=Faults(reorder=3)) as camera:
        assert same(clips["h264"], camera, "udp")


def test_the_stream_is_encrypted(clips: dict[str, Path], tmp_path: Path) -> None:
    made = subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=camera",
            ),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with Camera(
        units_of(clips["h264"]), quick(), tls=(tmp_path / "cert.pem", tmp_path / "key.pem")
    ) as camera:
        assert camera.url.startswith("rtsps:")
        assert same(clips["h264"], camera, "tcp")


@pytest.mark.parametrize("scheme", ["basic", "digest", "digest-old"])
def test_only_the_right_password_is_let_in(clips: dict[str, Path], scheme: str) -> None:
    login = Login(USER, PASSWORD, (scheme,), realm="gate", stale_after=2 if scheme == "digest" else None)
    with Camera(units_of(clips["h264"]), quick(pace=False), login) as camera:

        def url(password: str) -> str:
            return camera.url.replace("//", f"//{USER}:{urllib.parse.quote(password, safe='')}@")

        for wrong in (camera.url, url("wrong" + PASSWORD)):
            with pytest.raises(av.error.HTTPUnauthorizedError):
                list(pictures(wrong, "tcp"))
        assert set(camera.denied) == {"no credentials", "password"}
        assert len(list(pictures(url(PASSWORD), "tcp"))) == FRAMES
