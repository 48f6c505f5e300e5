"""The letterbox against the usual code on 1080p pictures, taking turns; run as a script with a clip.

Prints JSON: for each input type, the medians in ms and how many times as fast the letterbox is. Every turn has a
picture of its own that was decoded just before on the same core, as in the daemon.

The usual code makes new arrays for every picture. How much of its time goes into their fresh pages depends
on the allocator: with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set high a process keeps freed
pages, which is the state that favours the usual code. tests/models/test_preprocess.py asks for the ratio in
both.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator

import av
import cv2
import numpy as np

from streamd.core.picture import Picture
from streamd.models.contract import Fit, InputContract, InputShape, Order, Placement
from streamd.models.preprocess import Letterbox
from streamd.sources import SourceRequest, open_source

ROUNDS = 40
TARGET = 640


def usual(frame: av.VideoFrame) -> object:
    """Full-size BGR, resize, border, channels first, float32 from 0 to 1."""
    bgr = frame.to_ndarray(format="bgr24", threads=1)
    small = cv2.resize(bgr, (640, 360))
    boxed = cv2.copyMakeBorder(small, 140, 140, 0, 0, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return np.ascontiguousarray(boxed.transpose(2, 0, 1)).astype(np.float32) / 255


def frames(path: str) -> Iterator[av.VideoFrame]:
    """The clip's frames as PyAV gives them, over and over, decoded in this thread."""
    while True:
        with av.open(path) as container:
            container.streams.video[0].codec_context.thread_count = 1
            yield from container.decode(video=0)


def pictures(path: str) -> Iterator[Picture]:
    """The clip's pictures as streamd gives them, over and over."""
    while True:
        with open_source(SourceRequest(path), threading.Event()) as source:
            yield from source.pictures()


def letterbox(dtype: str, scale: float) -> Callable[[Picture], object]:
    """Writes a picture into an input of `dtype`, always the same memory, as into a pooled slot."""
    contract = InputContract(Order.RGB, scale, (0, 0, 0), (1, 1, 1), Fit.CENTER, 114)
    box = Letterbox(contract, InputShape("images", TARGET, TARGET, True, np.dtype(dtype), 1))
    pixels = np.empty((3, TARGET, TARGET), dtype)
    place: Placement | None = None

    def write(picture: Picture) -> None:
        nonlocal place
        place = box.write(picture, pixels, place)

    return write


def race(path: str) -> dict[str, dict[str, float]]:
    """Per input type: usual_ms, letterbox_ms (medians) and ratio."""
    cv2.setNumThreads(1)
    theirs, ours = frames(path), pictures(path)
    boxes = {"uint8": letterbox("uint8", 1.0), "float32": letterbox("float32", 1 / 255)}
    taken: dict[str, list[float]] = {name: [] for name in ("usual", *boxes)}
    for _ in range(ROUNDS):
        frame = next(theirs)
        started = time.perf_counter()
        usual(frame)
        taken["usual"].append(time.perf_counter() - started)
        for name, box in boxes.items():
            picture = next(ours)
            started = time.perf_counter()
            box(picture)
            taken[name].append(time.perf_counter() - started)
    usual_ms = 1000 * statistics.median(taken["usual"])
    results = {}
    for name in boxes:
        ms = 1000 * statistics.median(taken[name])
        results[name] = {
            "usual_ms": round(usual_ms, 3),
            "letterbox_ms": round(ms, 3),
            "ratio": round(usual_ms / ms, 2),
        }
    return results


if __name__ == "__main__":
    print(json.dumps(race(sys.argv[1])))
