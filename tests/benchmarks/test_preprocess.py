"""A 1080p picture becomes a model's 640x640 input: streamd's letterbox, its error, and the usual code."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamd.models.contract import Fit, InputContract, InputShape, Order
from streamd.models.preprocess import Letterbox
from tests.benchmarks.conftest import Effort
from tests.support.letterbox_race import frames, letterbox, pictures, usual
from tests.support.turns import turns

GROUP = "1080p picture to 640x640 input"
SCALES = {"uint8": 1.0, "float32": 1 / 255}


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("dtype", SCALES)
def test_letterbox(dtype: str, full_hd: Path, effort: Effort, benchmark: BenchmarkFixture) -> None:
    picture, frame = next(pictures(str(full_hd))), next(frames(str(full_hd)))
    write = letterbox(dtype, SCALES[dtype])
    benchmark(write, picture)
    mean, worst = error(full_hd, dtype)
    benchmark.extra_info["error_of_255"] = {"mean": round(mean, 3), "max": round(worst, 1)}
    benchmark.extra_info["usual_takes_times_as_long"] = turns(
        lambda: write(picture), lambda: usual(frame), effort.pairs
    )
    # The bound of tests/models/test_preprocess.py is stricter; here only: it is the same picture.
    assert mean < 4


@pytest.mark.benchmark(group=GROUP)
def test_usual_code(full_hd: Path, benchmark: BenchmarkFixture) -> None:
    found = benchmark(usual, next(frames(str(full_hd))))
    assert found.shape == (3, 640, 640)


def error(path: Path, dtype: str) -> tuple[float, float]:
    """Mean and largest difference to the usual code's pixels, in 255ths, over three pictures."""
    contract = InputContract(Order.BGR, SCALES[dtype], (0, 0, 0), (1, 1, 1), Fit.CENTER, 114)
    box = Letterbox(contract, InputShape("images", 640, 640, True, np.dtype(dtype), 1))
    differences = []
    for picture, frame in itertools.islice(zip(pictures(str(path)), frames(str(path)), strict=False), 3):
        pixels = np.zeros((3, 640, 640), dtype)
        box.write(picture, pixels, None)
        ours = pixels.astype(np.float32) / (SCALES[dtype] * 255)
        differences.append(np.abs(ours - usual(frame)) * 255)
    return float(np.mean(differences)), float(np.max(differences))
