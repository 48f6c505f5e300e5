"""One inference through streamd's detector, and the shortest loop that ONNX Runtime offers, on the same model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamd.models.chain import open_session
from streamd.models.contract import Array
from streamd.models.description import Description, describe
from streamd.models.detector import Detector
from streamd.models.session import RuntimeOptions
from tests.benchmarks.conftest import Effort
from tests.support.turns import turns
from tools.graphs.detectors import Form, yolov8n
from tools.graphs.noop import noop
from tools.graphs.planted import Planted

OPTIONS = RuntimeOptions(("cpu",), True, "fp32", 0, Path(), 1)


@pytest.fixture(scope="module", params=["noop", "v8n"])
def model(request: pytest.FixtureRequest, effort: Effort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / f"{request.param}.onnx"
    side = effort.choose(640, 96)
    form = Form(side, side, planted=Planted(20, copies=8))
    onnx.save(noop(Planted(20)) if request.param == "noop" else yolov8n(form), path)
    return path


@pytest.fixture
def ours(model: Path) -> Iterator[Callable[[], object]]:
    description = describe(model)
    with open_session(model, description.graph, OPTIONS) as session:
        detector = Detector(description, session, session.batch)
        picture = grey(description)
        yield lambda: detector.run([picture])


@pytest.fixture
def bare(model: Path) -> Callable[[], object]:
    """`run_with_iobinding` with input and output bound once: nothing is allocated, nothing looked up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    description = describe(model)
    binding = session.io_binding()
    binding.bind_cpu_input(description.graph.input.name, grey(description)[None])
    for output in description.graph.outputs:
        binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def grey(description: Description) -> Array:
    shape = description.graph.input
    return np.full(shape.picture, 1 if shape.dtype == np.uint8 else 0.5, shape.dtype)


@pytest.mark.benchmark(group="one inference")
def test_detector(
    ours: Callable[[], object],
    bare: Callable[[], object],
    model: Path,
    effort: Effort,
    benchmark: BenchmarkFixture,
) -> None:
    (found,) = benchmark(ours)  # type: ignore[misc]
    assert np.isfinite(found).all()
    benchmark.extra_info["model"] = model.stem
    benchmark.extra_info["bare_takes_times_as_long"] = turns(ours, bare, effort.pairs)


@pytest.mark.benchmark(group="one inference")
def test_bare_binding(bare: Callable[[], object], model: Path, benchmark: BenchmarkFixture) -> None:
    benchmark(bare)
    benchmark.extra_info["model"] = model.stem
