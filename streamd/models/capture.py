"""CUDA graphs: all that a run asks of the GPU, recorded once and asked for again in one call.

Written against ONNX Runtime's documentation and source; none of it has run on a GPU yet.

- A graph holds addresses and shapes: so there is one for each size of batch at each place (`gpu_graph_id`).
- CUDA's provider keeps the graphs by thread, and allows one thread only for such a session: a thread of our own runs
  it, the one that captured as well.
- TensorRT's provider reads no `gpu_graph_id`: it keeps one graph a session and replays it at whatever it is given. It
  is asked for one only where every run is alike: one size of batch, one place. A session for each size would hold
  the model's weights as often.
- While a graph is captured, any other thread that takes GPU memory fails, and the capture with it. All memory is
  bound before, and nobody asks for graphs once decoders run.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from streamd.core.errors import ModelError
from streamd.models.bound import Bound, DeviceBound, fixed_outputs
from streamd.models.contract import Array, Graph
from streamd.models.creation import ORT_ERRORS, NotHereError, Providers, run_options, words
from streamd.models.gate import Gate
from streamd.models.libraries import LibraryError
from streamd.models.memory import Memory
from streamd.models.running import Session, run_time_ms
from streamd.models.shapes import black

TENSORRT = "TensorrtExecutionProvider"
_OPTIONS = {TENSORRT: "trt_cuda_graph_enable", "CUDAExecutionProvider": "enable_cuda_graph"}
_COMPARED = 3
"""Batches for each graph: the first one captures, the others are replayed."""
_NEAR = 1e-2
"""Of the largest value of an output. Two sessions may pick other kernels; what was not replayed is far off."""


class CaptureError(Exception):
    """The session cannot be captured; the message says why."""


class RunThread:
    """Has one thread, which is always the same, do what is asked of it. Any thread may ask."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "graph")

    def __call__(self, run: Callable[[], None]) -> None:
        """Blocks until it is done; raises what it raises."""
        self._pool.submit(run).result()

    def close(self) -> None:
        """The thread ends when it has done what it is at."""
        self._pool.shutdown(wait=False)


def graph_option(providers: Providers) -> Providers:
    """The same providers, the first one with CUDA graphs."""
    (name, options), *rest = providers
    return [(name, {**options, _OPTIONS[name]: "1"}), *rest]


def captured(plain: Session, make: Callable[[], Any], memory: Callable[[], Memory]) -> Session:
    """A session that gives what `plain` does by replaying graphs; `plain` is closed then.

    If that cannot be: `plain` itself, and a note why. make: makes ONNX Runtime's session with `graph_option`.
    Captures all graphs, and compares what they come to with `plain`. Blocks for some runs; both are in memory then.
    """
    try:
        with ExitStack() as undone:
            made = _captured(plain, make, memory, undone)
            undone.pop_all()
    except (CaptureError, NotHereError, ModelError, LibraryError, *ORT_ERRORS) as error:
        plain.notes.append(f"no CUDA graphs: {words(error)}")
        return plain
    plain.close()
    return made


def _captured(
    plain: Session, make: Callable[[], Any], memory: Callable[[], Memory], undone: ExitStack
) -> Session:
    outputs = fixed_outputs(plain.graph)
    if outputs is None or plain.staging() is None:
        raise CaptureError("its inputs and outputs are not bound to fixed memory")
    one_graph = plain.provider == TENSORRT
    if one_graph and len(plain.buckets) > 1:
        sizes = ", ".join(map(str, plain.buckets))
        raise CaptureError(
            f"TensorRT's provider keeps one for a session, and batches of {sizes} come; set batch.limit to 1"
        )
    session = make()
    thread = RunThread()
    undone.callback(thread.close)
    gate = Gate(thread)
    bounds: list[Bound] = []
    for place in range(1 if one_graph else plain.runs):
        far = memory()
        undone.callback(far.close)
        first = place * len(plain.buckets) + 1
        # -1 means none, 0 is that of a run without a number.
        options = {
            bucket: run_options({"gpu_graph_id": str(first + index)})
            for index, bucket in enumerate(plain.buckets)
        }
        bounds.append(DeviceBound(session, plain.graph, outputs, far, options, gate, place))
    for bound in bounds:
        for bucket in plain.buckets:
            for seed in range(_COMPARED):
                _compare(plain, bound, bucket, seed)
    warm_ms = run_time_ms(lambda: bounds[0].run(black(plain.graph, plain.batch)))
    plain.notes.append(
        "each run replays a CUDA graph" + ("; no batch is copied while one runs" if one_graph else "")
    )
    return replace(
        plain,
        graphs=True,
        runs=len(bounds),
        gate=gate if len(bounds) > 1 else None,
        warm_ms=warm_ms,
        _session=session,
        _bounds=bounds,
        _ended=thread.close,
    )


def _compare(plain: Session, bound: Bound, rows: int, seed: int) -> None:
    """Raises CaptureError when a run gives something else than the session without graphs."""
    fed = _noise(plain.graph, rows, seed)
    for wanted, got in zip(plain.run(fed), bound.run(fed), strict=True):
        values = wanted.astype(np.float64)
        scale = np.abs(values[np.isfinite(values)]).max(initial=0.0)
        if not np.allclose(got.astype(np.float64), values, _NEAR, _NEAR * scale, equal_nan=True):
            raise CaptureError(f"a batch of {rows} gives other outputs than without")


def _noise(graph: Graph, rows: int, seed: int) -> dict[str, Array]:
    """Feeds whose pictures are noise, from 0 to 255 as bytes, else from 0 to 1."""
    fed = black(graph, rows)
    random = np.random.default_rng(seed)
    shape, dtype = (rows, *graph.input.picture), graph.input.dtype
    noise = random.integers(0, 256, shape) if dtype == np.uint8 else random.random(shape, np.float32)  # nosec B311  # pixels
    return {**fed, graph.input.name: noise.astype(dtype)}
