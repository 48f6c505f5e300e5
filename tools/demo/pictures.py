"""Training pictures: rendered frames, spoilt by compression, letterboxed to the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.demo.scene import Truth, render_scene

INPUT = (256, 448)  # height, width
FILL = 114
_SIZES = ((640, 360), (640, 360), (640, 360), (640, 360), (640, 360), (854, 480), (640, 480), (480, 360))


def letterbox(
    picture: NDArray[np.uint8], size: tuple[int, int] = INPUT, interpolation: int = cv2.INTER_LINEAR
) -> tuple[NDArray[np.uint8], float]:
    """Shrink or grow to fit `size` (height, width), top-left, and fill; return the picture and the factor."""
    factor = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    inner = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    boxed = np.full((*size, 3), FILL, np.uint8)
    boxed[: inner[1], : inner[0]] = cv2.resize(picture, inner, interpolation=interpolation)
    return boxed, factor


def truth_rows(truths: Sequence[Truth], factor: float) -> NDArray[np.float32]:
    """Return [G, 6]: box in input pixels, class, 1 if the object counts and 0 if it is to be ignored."""
    rows = [[*(factor * edge for edge in t.box), t.label, 0.0 if t.ignore else 1.0] for t in truths]
    return np.asarray(rows, np.float32).reshape(-1, 6)


def scene_pictures(seed: int, count: int) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
    """Return `count` pictures [count, H, W, 3] of one scene, seconds apart, with their truth."""
    rng = np.random.default_rng((seed, 77))
    size = _SIZES[int(rng.integers(len(_SIZES)))]
    pictures, rows = [], []
    for frame, truths in render_scene(seed, count, size, first=int(rng.integers(200)), step=47):
        quality = int(rng.integers(35, 96))
        packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        spoilt = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        way = cv2.INTER_AREA if rng.random() < 0.4 else cv2.INTER_LINEAR
        boxed, factor = letterbox(np.asarray(spoilt, np.uint8), interpolation=way)
        pictures.append(boxed)
        rows.append(truth_rows(truths, factor))
    return np.stack(pictures), rows


def training_pictures(
    seeds: Sequence[int], per_scene: int, processes: int
) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
    """Render all scenes; the result does not depend on the number of processes."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(scene_pictures, seeds, [per_scene] * len(seeds), chunksize=8))
    return np.concatenate([d[0] for d in done]), [row for d in done for row in d[1]]
