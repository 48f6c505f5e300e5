"""Both ways to half precision, what they take, and how far their outputs are from those of single precision.

The model has a raw head here: an end-to-end one picks and orders rows by scores that differ by less than either way
to half precision changes them, so that its outputs cannot be compared row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from streamd.core.errors import StreamdError
from streamd.models import libraries
from streamd.models.contract import Array
from streamd.models.libraries import LibraryError
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions
from tools.gpu_report.measure import Bench, NotMeasuredError, opened, outputs_of, timed, turn_of
from tools.graphs.detectors import Form, yolov8n

ENGINE_S = 150.0
"""What must be left of the time for an engine to be built in it."""
_SEEDS = 3
_BOX_ROWS = 4


def routes(bench: Bench) -> Iterator[tuple[str, str]]:
    """Single precision, the model converted beforehand, and TensorRT's own option."""
    plain = bench.folder / "raw.onnx"
    onnx.save(yolov8n(Form(bench.side, bench.side, dynamic=True, seed=0)), plain)
    options = replace(bench.options(), uint8_input=frozenset({bench.provider}))
    with opened(bench, plain, options) as (_, session):
        yield f"{bench.provider}, fp32, raw head", str(timed(turn_of(session, 1), bench.seconds))
        wanted = [outputs_of(session, seed) for seed in range(_SEEDS)]
    yield f"{bench.provider}, model converted to fp16", _measured(bench, converted(plain), options, wanted)
    try:
        yield "tensorrt, trt_fp16_enable", _by_option(bench, plain, wanted)
    except (NotMeasuredError, LibraryError, StreamdError) as error:
        yield "tensorrt, trt_fp16_enable", f"not measured: {error}"


def converted(model: Path) -> Path:
    """The model in half precision, its inputs and outputs in float32, by ONNX Runtime's own converter."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    target = model.parent / "half" / model.name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), target)
    return target


def difference(wanted: Array, got: Array) -> tuple[float, float]:
    """Of raw heads [n, 4 + classes, cells]: by how many pixels a box differs at most, and by what share a score does.

    A share, since random weights give scores of a ten thousandth.
    """
    wide = wanted.astype(np.float64)
    apart = np.abs(got.astype(np.float64) - wide)
    shares = apart[:, _BOX_ROWS:] / np.maximum(wide[:, _BOX_ROWS:], np.finfo(np.float32).tiny)
    return float(apart[:, :_BOX_ROWS].max()), float(shares.max())


def _by_option(bench: Bench, plain: Path, wanted: list[list[Array]]) -> str:
    if bench.provider == "cpu":
        raise NotMeasuredError("needs a GPU; this ran with --cpu")
    libraries.load(libraries.TENSORRT)
    if bench.deadline.left_s() < ENGINE_S:
        raise NotMeasuredError("no time was left to build its engine")
    return _measured(bench, plain, replace(bench.options("tensorrt"), precision="fp16"), wanted)


def _measured(bench: Bench, model: Path, options: RuntimeOptions, wanted: list[list[Array]]) -> str:
    with opened(bench, model, options) as (_, session):
        sample = timed(turn_of(session, 1), bench.seconds)
        return f"{sample}; largest difference {_spelled(session, wanted)}"


def _spelled(session: Session, wanted: list[list[Array]]) -> str:
    found = [difference(ones[0], outputs_of(session, seed)[0]) for seed, ones in enumerate(wanted)]
    boxes, scores = (max(column) for column in zip(*found, strict=True))
    return f"{boxes:.2g} px in a box, {scores:.2%} of a score"
