"""How long after a picture's last packet it is in hand: our own RTSP reader against libav's, taking turns.

    python -m tests.support.rtsp_race --size 1280x720 --rate 30 --streams 16 --seconds 10
    python -m tests.support.rtsp_race --daemon

Prints JSON: per reader the delays in ms and the reading threads' processor time per picture in microseconds: all of
it, without libav's decoder, and from the socket to a whole access unit only. With --daemon the delay ends where a
subscriber in another process has the message. The camera is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from streamd.core.picture import Picture
from streamd.sources import Reader, Source, SourceRequest, Transport, open_source
from streamd.sources.rtsp.source import RtspSource
from tests.support.clips import Clip, make, number_in
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.rtsp_camera import Camera, Faults, Stream, units_of

READERS = (Reader.OWN, Reader.LIBAV)
_FRAMES = 120
# The first pictures pay for opening.
_WARM_UP = 10
_STREAMS_PER_CAMERA = 2


@dataclass(frozen=True)
class Course:
    """What is measured. seconds: of each reader in each round."""

    codec: str = "h264"
    size: str = "1280x720"
    rate: float = 30
    streams: int = 1
    seconds: float = 10
    rounds: int = 2
    transport: str = "tcp"
    daemon: bool = False


@dataclass
class Lap:
    """What one stream's reader did: per picture its number and when it was in hand (monotonic)."""

    camera: int
    connection: int
    pictures: list[tuple[int, int]] = field(default_factory=list)
    reading_s: float = 0.0
    decoding_s: float | None = None
    receiving_s: float | None = None


class CameraProcess:
    """A camera elsewhere; `sent` is known once it has ended."""

    def __init__(self, course: Course, folder: Path) -> None:
        self.connections = itertools.count()
        self._child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.rtsp_race",
                "--camera",
                json.dumps(asdict(course)),
                str(folder),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().strip()
        assert self.url, "the camera did not start"

    def end(self) -> dict[tuple[int, int], list[int]]:
        """By connection and drawn number, when its last packet went out, each time."""
        out, _ = self._child.communicate(timeout=30)
        times: dict[tuple[int, int], list[int]] = defaultdict(list)
        for connection, index, sent_ns in json.loads(out):
            times[connection, index].append(sent_ns)
        return times


def be_camera(course: Course, folder: Path) -> None:
    """The child: a camera until the standard input closes."""
    sys.setswitchinterval(0.0002)
    width, height = map(int, course.size.split("x"))
    codec = {"h264": "libx264", "hevc": "libx265"}[course.codec]
    rate = round(course.rate)
    clip = Clip(codec, width=width, height=height, frames=_FRAMES, rate=rate, gop=max(rate, 10))
    units = units_of(make(folder / "race.mp4", clip))
    # Python's camera could not send sixteen streams packet by packet; a picture in one write is also what comes.
    faults = Faults(coalesce=1 if course.streams == 1 else 10_000)
    with Camera(units, Stream(), faults=faults) as camera:
        print(camera.url, flush=True)
        sys.stdin.read()
        rows = [(row.connection, row.index, row.sent_ns) for row in camera.sent]
    print(json.dumps(rows))


def race(course: Course) -> dict[str, Any]:
    """Let the readers take turns; the result as it is printed."""
    sys.setswitchinterval(0.0002)  # as the daemon does
    laps: dict[Reader, list[Lap]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cameras = []
        for number in range(-(-course.streams // _STREAMS_PER_CAMERA)):
            (folder / str(number)).mkdir()
            cameras.append(CameraProcess(course, folder / str(number)))
        for turn in range(course.rounds):
            for reader in READERS if turn % 2 == 0 else READERS[::-1]:
                run = _through_the_daemon if course.daemon else _in_threads
                laps[reader] += run(course, reader, cameras, folder)
        sent = [camera.end() for camera in cameras]
    return {"course": asdict(course), **{reader.value: _summed(laps[reader], sent) for reader in READERS}}


def _in_threads(course: Course, reader: Reader, cameras: list[CameraProcess], folder: Path) -> list[Lap]:
    opening, laps = threading.Lock(), list[Lap]()

    def read(number: int) -> None:
        camera = cameras[number]
        request = SourceRequest(
            camera.url, reader=reader, transport=Transport(course.transport), timeout_s=10
        )
        stop = threading.Event()
        with contextlib.ExitStack() as stack:
            with opening:  # the camera counts its connections in their order
                lap = Lap(number, next(camera.connections))
                source = stack.enter_context(open_source(request, stop))
                laps.append(lap)
            _read(source, lap, course.seconds)

    threads = [threading.Thread(target=read, args=(index % len(cameras),)) for index in range(course.streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return laps


def _read(source: Source, lap: Lap, seconds: float) -> None:
    if isinstance(source, RtspSource):
        _time(source._decoder, "_frames", lap, "decoding_s")
        _time(source, "_pump", lap, "receiving_s")
    pictures: Iterator[Picture] = source.pictures()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.thread_time()
        picture = next(pictures)
        at = time.monotonic_ns()
        lap.reading_s += time.thread_time() - begun
        number = number_in(picture.planes[0])
        assert number is not None
        lap.pictures.append((number, at))


def _time(owner: Any, method: str, lap: Lap, name: str) -> None:
    """Add the thread's time in this method to the lap's field."""
    inner = getattr(owner, method)
    setattr(lap, name, 0.0)

    def timed(argument: object) -> object:
        begun = time.thread_time()
        try:
            return inner(argument)
        finally:
            setattr(lap, name, getattr(lap, name) + time.thread_time() - begun)

    setattr(owner, method, timed)


def _through_the_daemon(
    course: Course, reader: Reader, cameras: list[CameraProcess], folder: Path
) -> list[Lap]:
    model = make_number_model(folder / "number.onnx")
    stream = {
        "url": cameras[0].url,
        "reader": reader.value,
        "transport": course.transport,
        "max_age_ms": 5000,
    }
    streams = {f"s{index}": stream for index in range(course.streams)}
    config = write_config(folder / "c.yaml", model, streams)
    assert course.streams == 1, "connections of several streams cannot be told apart here"
    lap = Lap(0, next(cameras[0].connections))
    with RunningDaemon(config) as daemon, zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(daemon.endpoint)
        socket.subscribe(b"streamd/s0/results")
        end = time.monotonic() + course.seconds
        while time.monotonic() < end:
            if not socket.poll(1000):
                continue
            _, body = socket.recv_multipart()
            at = time.monotonic_ns()
            number = number_of(json.loads(body)["objects"])
            assert number is not None
            lap.pictures.append((number, at))
        assert daemon.stop() == 0
    return [lap]


def _summed(laps: list[Lap], sent: list[dict[tuple[int, int], list[int]]]) -> dict[str, float]:
    delays = []
    for lap in laps:
        for number, at in lap.pictures[_WARM_UP:]:
            # A starved camera may look at its clock only when the reader has the picture already.
            sent_ns = min(sent[lap.camera][lap.connection, number], key=lambda ns: abs(at - ns))
            delays.append(max(at - sent_ns, 0) / 1e6)
    pictures = sum(len(lap.pictures) for lap in laps)
    found = {f"p{share}_ms": round(float(np.percentile(delays, share)), 3) for share in (50, 95, 99)}
    found["pictures"] = pictures
    reading_s = sum(lap.reading_s for lap in laps)
    if reading_s:
        found["reading_us"] = round(reading_s / pictures * 1e6, 1)
    decoding = [lap.decoding_s for lap in laps if lap.decoding_s is not None]
    if decoding:
        found["reading_without_decoding_us"] = round((reading_s - sum(decoding)) / pictures * 1e6, 1)
    receiving = [lap.receiving_s for lap in laps if lap.receiving_s is not None]
    if receiving:
        found["receiving_us"] = round(sum(receiving) / pictures * 1e6, 1)
    return found


def main() -> None:
    """Read the command line and race."""
    if sys.argv[1:2] == ["--camera"]:
        be_camera(Course(**json.loads(sys.argv[2])), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codec", choices=["h264", "hevc"], default="h264")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rate", type=float, default=30)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="of each reader in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--transport", choices=["tcp", "udp"], default="tcp")
    parser.add_argument("--daemon", action="store_true", help="up to a subscriber's message")
    print(json.dumps(race(Course(**vars(parser.parse_args()))), indent=1))


if __name__ == "__main__":
    main()
