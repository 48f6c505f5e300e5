"""The letterbox against the usual code, on one 1080p picture, taking turns; run as a script with a clip.

Prints JSON: for each input type, the medians in ms and how many times as fast the letterbox is. The usual
code makes new arrays for every picture, and a good part of its time goes into their fresh pages. A process
that has freed such arrays before may keep the pages (as with MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ set high); there the letterbox is only 3.8 times (uint8) or 2.7 times (float32, like
the usual code's result) as fast, below the 4 times that are asked. Run in a process of its own, this measures the
first, more favourable state; docs/PERFORMANCE.md has both.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable

import av
import cv2
import numpy as np

from streamd.models.contract import Fit, InputContract, InputShape, Order
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


def taken_ms(work: Callable[[], object]) -> float:
    """What one call takes."""
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def race(path: str) -> dict[str, dict[str, float]]:
    """Per input type: usual_ms, letterbox_ms (medians) and ratio."""
    cv2.setNumThreads(1)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    with open_source(SourceRequest(path), threading.Event()) as source:
        picture = next(source.pictures())
    results = {}
    for dtype, scale in (("uint8", 1.0), ("float32", 1 / 255)):
        contract = InputContract(Order.RGB, scale, (0, 0, 0), (1, 1, 1), Fit.CENTER, 114)
        box = Letterbox(contract, InputShape("images", TARGET, TARGET, True, np.dtype(dtype), 1))
        pixels = np.empty((3, TARGET, TARGET), dtype)
        place = box.write(picture, pixels, None)
        theirs, ours = [], []
        for _ in range(ROUNDS):
            theirs.append(taken_ms(lambda: usual(frame)))
            ours.append(taken_ms(lambda: box.write(picture, pixels, place)))  # noqa: B023
        a, b = statistics.median(theirs), statistics.median(ours)
        results[dtype] = {"usual_ms": round(a, 3), "letterbox_ms": round(b, 3), "ratio": round(a / b, 2)}
    return results


if __name__ == "__main__":
    print(json.dumps(race(sys.argv[1])))
