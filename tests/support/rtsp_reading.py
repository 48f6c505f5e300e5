"""What comes out of an RTSP address: its pictures as bytes, or why there are none."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from streamd.core.errors import SourceError
from streamd.core.picture import Picture
from streamd.sources import Reader, SourceRequest, open_source
from tests.support.rtsp_camera import Camera


@dataclass
class Seen:
    """Pictures until the end, which every live stream has: `fault`."""

    pictures: list[bytes] = field(default_factory=list)
    corrupt: list[bool] = field(default_factory=list)
    pts: list[float | None] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    fault: SourceError | None = None


def request_of(url: str, **options: Any) -> SourceRequest:
    """A request to the own reader, of little patience."""
    return SourceRequest(url, **{"reader": Reader.OWN, "timeout_s": 1.0, **options})


def read_all(url: str, most: int = 10_000, stop: threading.Event | None = None, **options: Any) -> Seen:
    """Open it and read up to `most` pictures. What fails in opening is raised, what fails later is kept."""
    seen = Seen()
    with open_source(request_of(url, **options), stop or threading.Event()) as source:
        seen.notes = source.notes
        try:
            for picture in source.pictures():
                seen.pictures.append(pixels(picture))
                seen.corrupt.append(picture.corrupt)
                seen.pts.append(picture.pts)
                if len(seen.pictures) >= most:
                    break
        except SourceError as fault:
            seen.fault = fault
    return seen


def fault_of(url: str, **options: Any) -> SourceError:
    """Why it cannot be opened, or be read to its end."""
    try:
        seen = read_all(url, **options)
    except SourceError as fault:
        return fault
    assert seen.fault is not None, "it goes on"
    return seen.fault


def pixels(picture: Picture) -> bytes:
    """A picture's planes, one after the other."""
    return b"".join(plane.tobytes() for plane in picture.planes)


def decoded(clip: Path) -> list[bytes]:
    """A clip's pictures as libav alone decodes them."""
    with av.open(str(clip)) as source:
        return [frame.to_ndarray().tobytes() for frame in source.decode(video=0)]


def recorded(camera: Camera) -> list[bytes]:
    """What a camera answers to each of the reader's requests; with the last all media up to its end."""
    answers: list[bytes] = []
    urls = {"OPTIONS": "", "DESCRIBE": "", "SETUP": "/trackID=0", "PLAY": ""}
    session = ""
    with socket.create_connection(("127.0.0.1", camera.port), timeout=10) as client:
        for number, (method, track) in enumerate(urls.items(), 1):
            head = f"{method} {camera.url}{track} RTSP/1.0\r\nCSeq: {number}\r\n{session}"
            client.sendall(f"{head}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".encode())
            answers.append(client.recv(65536))
            found = re.search(rb"Session: (\w+)", answers[-1])
            session = f"Session: {found[1].decode()}\r\n" if found else ""
        while said := client.recv(65536):
            answers[-1] += said
    return answers


@contextlib.contextmanager
def scripted(talks: Sequence[list[bytes]], silent: bool = False) -> Iterator[str]:
    """A server that answers the n-th request of the n-th connection with these bytes, then ends it.

    silent: every second connection is left open, without another word.
    """
    threads: list[threading.Thread] = []

    def talk(client: socket.socket, answers: list[bytes], mute: bool) -> None:
        with client, contextlib.suppress(OSError):
            for answer in answers:
                if not client.recv(65536):
                    return
                client.sendall(answer)
            while mute and client.recv(65536):
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            for number, answers in enumerate(talks):
                client, _ = listener.accept()
                mute = silent and number % 2 == 1
                threads.append(threading.Thread(target=talk, args=(client, answers, mute), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    for thread in (accepting, *threads):
        thread.join(10)
        assert not thread.is_alive()
