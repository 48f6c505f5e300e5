"""Reading a source to its end, for tests that ask which pictures came and what was raised after them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from streamd.core.errors import SourceError
from streamd.core.picture import Picture
from streamd.sources import SourceRequest, open_source
from tests.support.clips import number_in


def request(path: Path | str, threads: int = 1, **options: object) -> SourceRequest:
    return SourceRequest(str(path), threads=threads, **options)  # type: ignore[arg-type]


def grey(picture: Picture) -> np.ndarray:
    return picture.planes[0] if picture.planes[0].ndim == 2 else picture.planes[0][..., 1]


def read(
    path: Path | str, **options: object
) -> tuple[list[int | None], list[float | None], SourceError | None]:
    """Numbers and times of all pictures, and what was raised after (or instead of) them."""
    numbers: list[int | None] = []
    times: list[float | None] = []
    try:
        with open_source(request(path, **options), threading.Event()) as source:
            for picture in source.pictures():
                numbers.append(number_in(grey(picture)))
                times.append(picture.pts)
    except SourceError as error:
        return numbers, times, error
    return numbers, times, None


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(content[: int(len(content) * share)])
    return short
