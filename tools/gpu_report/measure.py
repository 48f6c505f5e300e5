"""What is measured with, and how: sessions as streamd opens them, and loops over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamd.core.timing import Deadline
from streamd.models.bound import DeviceBound, fixed_outputs
from streamd.models.chain import open_session
from streamd.models.contract import Array, Graph
from streamd.models.creation import Source, create
from streamd.models.description import Description, describe
from streamd.models.memory import CudaMemory
from streamd.models.prologue import join
from streamd.models.running import Session
from streamd.models.session import NAMES, Provider, RuntimeOptions
from streamd.models.shapes import black, feeds

_WARM_RUNS = 5


@dataclass(frozen=True, slots=True)
class Bench:
    """How the report is made: on which provider, with what size, and for how long each loop runs."""

    provider: Provider
    folder: Path
    side: int
    seconds: float
    buckets: tuple[int, ...]
    deadline: Deadline
    device: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def detector(self) -> Path:
        """The graph of a detector's size."""
        return self.folder / "detector.onnx"

    @property
    def idle(self) -> Path:
        """The graph that does nothing."""
        return self.folder / "idle.onnx"

    def options(self, provider: Provider | None = None, batch: int = 1) -> RuntimeOptions:
        """The daemon's own, for one provider and no other."""
        return RuntimeOptions(
            providers=(provider or self.provider,),
            fallback=False,
            precision="fp32",
            device=self.device,
            cache_dir=self.folder / "engines",
            batch_limit=batch,
            cpu_batch_limit=batch,
        )


class NotMeasuredError(Exception):
    """A row that cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a loop took: nanoseconds of each turn, in order."""

    turns_ns: Sequence[int]

    def ms(self, share: float) -> float:
        """The quantile, in milliseconds."""
        return float(np.quantile(self.turns_ns, share)) / 1e6

    @property
    def per_s(self) -> float:
        """Turns a second."""
        return len(self.turns_ns) / (sum(self.turns_ns) / 1e9)

    def __str__(self) -> str:
        return f"p50 {self.ms(0.5):.3f} ms, p99 {self.ms(0.99):.3f} ms"


def timed(turn: Callable[[], object], seconds: float) -> Sample:
    """Turns for so long, after some that are not counted; at least ten."""
    for _ in range(_WARM_RUNS):
        turn()
    found: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    before = time.perf_counter_ns()
    while before < end or len(found) < 10:
        turn()
        now = time.perf_counter_ns()
        found.append(now - before)
        before = now
    return Sample(found)


@contextmanager
def opened(
    bench: Bench, path: Path, options: RuntimeOptions, *, bound: bool = True
) -> Iterator[tuple[Description, Session]]:
    """A session as the daemon has it. Raises NotMeasuredError when it is not what was asked for."""
    description = describe(path)
    with open_session(path, description.graph, options, bench.notes.append, description.contract) as session:
        wanted_uint8 = options.providers[0] in options.uint8_input
        if wanted_uint8 != (session.graph.input.dtype == np.uint8) and path != bench.idle:
            raise NotMeasuredError(
                "; ".join(session.notes) or "the input is not of the type that was asked for"
            )
        if bound and session.provider != NAMES["cpu"] and session.staging() is None:
            raise NotMeasuredError("; ".join(session.notes) or "the session is not bound to fixed memory")
        yield description, session


def turn_of(session: Session, pictures: int) -> Callable[[], object]:
    """One run with so many pictures that are put together on the host anew, as the worker does."""
    rows = session.rows(pictures)
    shape = (pictures, *session.graph.input.picture)
    source = np.random.default_rng(1).integers(0, 256, shape).astype(session.graph.input.dtype)
    batch: Array = np.zeros((rows, *shape[1:]), source.dtype)
    staging = session.staging()
    if staging is not None:
        batch = staging[:rows]
    fed = feeds(session.graph, batch)

    def turn() -> object:
        batch[:pictures] = source
        return session.run(fed)

    return turn


class PageableMemory(CudaMemory):
    """As the daemon's, but its host memory may be paged: what page-locked memory is compared with."""

    def host(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Zeroed host memory as any other."""
        return np.zeros(shape, dtype)


@contextmanager
def bound_by_hand(bench: Bench, memory: CudaMemory, bucket: int) -> Iterator[tuple[Any, DeviceBound, Graph]]:
    """ONNX Runtime's session on CUDA and the binding around it, with the uint8 input joined."""
    description = describe(bench.detector)
    joined = join(bench.detector, description.graph, description.contract)
    source = Source(bench.detector, joined.graph, joined.content, joined.key)
    options = {"device_id": str(bench.device), "cudnn_conv_algo_search": "HEURISTIC"}
    session = create(source, [(NAMES["cuda"], options)], 1)
    outputs = fixed_outputs(joined.graph)
    if outputs is None:
        raise NotMeasuredError("the outputs have no fixed size")
    made = DeviceBound(session, joined.graph, outputs, memory, {bucket: None})
    try:
        yield session, made, joined.graph
    finally:
        made.close()


def outputs_of(session: Session, seed: int) -> list[Array]:
    """Copies of what a run with one picture of noise gives."""
    rows = session.rows(1)
    fed = black(session.graph, rows)
    shape, dtype = fed[session.graph.input.name].shape, session.graph.input.dtype
    fed[session.graph.input.name] = np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)
    return [output[:1].copy() for output in session.run(fed)]


def with_floats(options: RuntimeOptions) -> RuntimeOptions:
    """The same with the model's own input."""
    return replace(options, uint8_input=frozenset())
