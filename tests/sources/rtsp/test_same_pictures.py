"""Our reader against libav's, on the same streams of GStreamer's server: the same pictures, bit for bit."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from streamd.core.errors import SourceError
from streamd.core.picture import Picture
from streamd.sources import Reader, SourceRequest, Transport, open_source
from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Stream, units_of
from tests.support.rtsp_server import Mount, serve

pytestmark = [pytest.mark.rtsp, pytest.mark.usefixtures("gstreamer"), pytest.mark.long]

_MOST = 120
_ENOUGH = 30
SIZES = [(160, 120), (640, 360), (1280, 720), (1920, 1080)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make(tmp_path_factory.mktemp("same") / "numbers.mp4", Clip(frames=50)))


def fingerprint(picture: Picture) -> str:
    return hashlib.sha256(b"".join(plane.tobytes() for plane in picture.planes)).hexdigest()


def both(url: str, transport: Transport) -> tuple[list[str], list[str]]:
    """Fingerprints of what each reader gives while both are connected: (ours, libav's)."""
    seen: dict[Reader, list[str]] = {Reader.OWN: [], Reader.LIBAV: []}
    faults: list[Exception] = []
    enough, first = threading.Event(), threading.Event()

    def read(reader: Reader) -> None:
        # GStreamer's server crashes now and then when two ask while it prepares a stream, and the first one loses
        # packets when the second comes: only our reader would notice.
        if reader is Reader.OWN:
            first.wait(20)
        try:
            with open_source(SourceRequest(url, reader=reader, transport=transport), enough) as source:
                for picture in source.pictures():
                    first.set()
                    seen[reader].append(fingerprint(picture))
                    shared = set(seen[Reader.OWN]) & set(seen[Reader.LIBAV])
                    if len(shared) >= _ENOUGH or len(seen[reader]) >= _MOST:
                        enough.set()
                    assert reader is Reader.LIBAV or not picture.corrupt
        except (SourceError, AssertionError) as fault:
            faults.append(fault)
            first.set()
            enough.set()

    threads = [threading.Thread(target=read, args=(reader,)) for reader in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    return seen[Reader.OWN], seen[Reader.LIBAV]


def check(ours: list[str], theirs: list[str]) -> None:
    """From our first picture on, which libav has too, both have the same ones in the same order."""
    # The test pictures may begin anew when the second client comes: the last beginning is the one both see.
    start = max(index for index, picture in enumerate(theirs) if picture == ours[0])
    length = min(len(ours), len(theirs) - start)
    assert length >= _ENOUGH - 5
    assert ours[:length] == theirs[start : start + length]


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UDP])
@pytest.mark.parametrize(
    ("codec", "b_frames", "slices"),
    [("h264", 0, 1), ("h264", 2, 1), ("h264", 0, 4), ("h264", 2, 4), ("h265", 0, 1), ("h265", 2, 1)],
)
def test_codecs_transports_b_frames_and_slices(
    clip: str, codec: str, b_frames: int, slices: int, transport: Transport
) -> None:
    with serve([Mount("gate", codec=codec, b_frames=b_frames, slices=slices, clip=clip)]) as server:
        check(*both(server.url("gate"), transport))


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UDP])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_several_slices_in_h265(tmp_path: Path, b_frames: int, transport: Transport) -> None:
    options = {"x265-params": "slices=4:log-level=none"}
    path = make(tmp_path / "slices.mp4", Clip(codec="libx265", frames=60, b_frames=b_frames, options=options))
    with Camera(units_of(path), Stream(rate=50, mtu=300)) as camera:
        check(*both(camera.url, transport))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_sizes(width: int, height: int) -> None:
    with serve([Mount("gate", width=width, height=height)]) as server:
        check(*both(server.url("gate"), Transport.TCP))
