"""The annotated MP4 of an offline run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import av.error
import numpy as np

from streamd.bus import wire
from streamd.core.errors import OutputError, UsageError
from streamd.core.picture import Pixels
from streamd.models.colour import upright_bgr
from streamd.pipeline.outbox import Result
from streamd.service.line_file import create, remove_empty, write_failure
from streamd.service.render import draw
from streamd.sources import Source
from streamd.sources.address import path_of, scheme_of

_TIME_BASE = Fraction(1, 90_000)
# A fragment a second, its index in front of it: a kill or a full disk leaves all whole seconds playable.
_MUXER = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "1000000",
    "flush_packets": "1",
}
_ENCODER = {"preset": "veryfast", "crf": "23", "sc_threshold": "0"}
_LARGEST_SIDE = 16384  # of H.264 as libx264 writes it
# Some of libav's failures are no OSError: an unknown codec, an external library.
_FAILURES = (OSError, av.error.FFmpegError)


class Movie:
    """Encodes pictures with their boxes; made when the first picture says how large they are."""

    def __init__(self, path: Path, rate: float | None) -> None:
        self._path = path
        self._rate = rate or 25.0
        self._first_pts: float | None = None
        self._last_ticks = -1
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None

    def add(self, result: Result) -> None:
        """Draw and encode one result's picture. Raises OutputError."""
        picture = result.frame.picture
        if picture is None:
            raise ValueError("the lane was not asked to keep pictures")
        image = upright_bgr(picture)
        draw(image, result.detections, result.labels)
        try:
            if self._stream is None:
                self._open(picture.width, picture.height, picture.sar)
            self._encode(image, self._ticks(picture.pts))
        except _FAILURES as error:
            self._abandon()
            raise self._failure(error) from error

    def close(self) -> None:
        """Write what the encoder still holds, and the last fragment. Raises OutputError."""
        if self._container is None:
            return
        try:
            assert self._stream is not None
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except _FAILURES as error:
            raise self._failure(error) from error
        finally:
            self._container = self._stream = None

    def _open(self, width: int, height: int, sar: Fraction | None) -> None:
        if max(width, height) > _LARGEST_SIDE:
            raise OutputError(
                f"{self._path}: H.264 holds no picture of {width}x{height}, at most {_LARGEST_SIDE} a side;"
                " leave this input out, or --video"
            )
        # `file:` keeps libav from reading a protocol out of a name with a colon.
        self._container = av.open(f"file:{self._path}", "w", format="mp4", options=dict(_MUXER))
        rate = Fraction(self._rate).limit_denominator(1001)
        stream = self._container.add_stream("libx264", rate=rate, options=dict(_ENCODER))
        # 4:2:0 needs even sizes: an odd last column or row is doubled.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.gop_size = max(1, round(self._rate))
        stream.codec_context.max_b_frames = 0
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        self._stream = stream

    def _encode(self, image: Pixels, ticks: int) -> None:
        assert self._stream is not None
        assert self._container is not None
        height, width = self._stream.height, self._stream.width
        if image.shape[:2] != (height, width):
            image = _cover(image, height, width)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts, frame.time_base = ticks, _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _ticks(self, pts: float | None) -> int:
        """Time in the movie: the source's, from 0; where that is unknown or does not rise, the next interval."""
        if pts is not None:
            if self._first_pts is None:
                self._first_pts = pts
            ticks = round((pts - self._first_pts) / _TIME_BASE)
        if pts is None or ticks <= self._last_ticks:
            ticks = (
                self._last_ticks + max(1, round(1 / self._rate / _TIME_BASE)) if self._last_ticks >= 0 else 0
            )
        self._last_ticks = ticks
        return ticks

    def _failure(self, error: OSError | av.error.FFmpegError) -> OutputError:
        return OutputError(write_failure(str(self._path), OSError(error.errno, error.strerror)))

    def _abandon(self) -> None:
        """Give up after a failed write: closing would fail the same way, what is on the disk is playable."""
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            with suppress(*_FAILURES):  # the failure that brought us here, said again
                container.close()


class Movies:
    """A sink: one movie for the only input, or one an input in a folder."""

    def __init__(self, target: Path, sources: Sequence[str], *, force: bool, folder: bool) -> None:
        self._force = force
        self._movie: Movie | None = None
        self.rate: float | None = None
        """The next input's frame rate, where it is known."""
        self.paths = _names(target, sources) if folder else [target]
        """Each input's movie."""
        self._path: Path | None = None

    def check(self) -> None:
        """Say at the start what is wrong with the place. Raises OutputError, UsageError."""
        for path in self.paths:
            if not path.parent.is_dir():
                raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
            if path.exists() and not self._force:
                raise UsageError(f"{path} exists; choose another name or overwrite it with --force")
        if len(self.paths) == 1:
            self._make(self.paths[0])

    def begin(self, source: str, index: int) -> None:
        if self._path != self.paths[index]:
            self._make(self.paths[index])

    def on_open(self, source: Source) -> None:
        """Take the frame rate of the source that is about to be read."""
        self.rate = source.rate

    def result(self, result: Result) -> None:
        if self._movie is None:
            assert self._path is not None
            self._movie = Movie(self._path, self.rate)
        self._movie.add(result)

    def end(self, end: wire.OfflineEnd) -> None:
        self.close()

    def close(self) -> None:
        movie, self._movie = self._movie, None
        path, self._path = self._path, None
        try:
            if movie is not None:
                movie.close()
        finally:
            if path is not None:
                remove_empty(path)  # a movie without a picture is no movie

    def _make(self, path: Path) -> None:
        os.close(create(path, force=self._force))
        self._path = path


def _names(folder: Path, sources: Sequence[str]) -> list[Path]:
    """A file in the folder for each source, called like it; no two are the same."""
    paths: list[Path] = []
    for index, source in enumerate(sources):
        # An address's query is no part of a name: it may hold a secret.
        path = path_of(source) if scheme_of(source) == "file" else urlsplit(source).path
        stem = Path(path).stem or "input"
        while (found := folder / f"{stem}.mp4") in paths:
            stem = f"{stem}.{index}"
        paths.append(found)
    return paths


def _cover(image: Pixels, height: int, width: int) -> Pixels:
    """The image cut or edge-padded to [height, width]: for odd sizes, and sizes that change on the way."""
    image = image[:height, :width]
    pad = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(image, pad, mode="edge"))
