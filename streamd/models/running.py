"""A session that has run: how large its batches may be, where its inputs and outputs lie, how long a run takes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from streamd.core.errors import ModelError, ProviderError
from streamd.models.assignment import CPU
from streamd.models.bound import (
    NOTHING,
    Bound,
    DeviceBound,
    FeedsError,
    HostBound,
    Output,
    fixed_outputs,
)
from streamd.models.contract import Array, Graph
from streamd.models.creation import ORT_ERRORS, NotHereError, words
from streamd.models.engines import Tell
from streamd.models.gate import Gate
from streamd.models.libraries import LibraryError
from streamd.models.memory import DeviceArray, Memory
from streamd.models.shapes import black

WORTH_A_THREAD_MS = 1.0
"""A model that is faster is not run side by side: handing pictures to several threads would cost as much. So does
running it for each picture, and waking a thread to run it."""
_RUN_ERRORS = (*ORT_ERRORS, LibraryError)


@dataclass(slots=True)
class Session:
    """A warm session. `runs` threads at a time, each at a place of its own; `run` blocks and releases the GIL."""

    provider: str
    """ONNX Runtime's name of what really runs the model."""
    providers: tuple[str, ...]
    """All that the session has, in order."""
    graph: Graph
    """What it takes and gives: the model's own graph, or the one with a uint8 input."""
    batch: int
    """The most pictures in one run: the model's number, else as many of `batch_limit` as were proven."""
    buckets: tuple[int, ...]
    """The sizes of batches that were warmed, ascending, to one of which each batch is padded; (): any size runs."""
    warm_ms: float
    """How long a run of `batch` pictures took once it was warm, with no other beside it."""
    notes: list[str]
    """What was tried and not taken, and what is not as asked; a line each, for the log."""
    _outputs: list[str]
    _session: Any = field(repr=False)
    _bounds: list[Bound] = field(default_factory=list, repr=False)
    """By place; on the CPU one, or none where several run side by side; replaced, never changed."""
    _former: list[Bound] = field(default_factory=list, repr=False)
    """Not used any more, but another thread may be in one still."""
    _tell: Tell = field(default=lambda _: None, repr=False)
    runs: int = 1
    """How many runs may go on side by side; on a GPU one of them runs while the other copies."""
    gate: Gate | None = None
    """What tells when the next batch is due; None where runs do not wait for each other."""
    graphs: bool = False
    """Whether its runs are CUDA graphs that are replayed."""
    _ended: Callable[[], None] = field(default=lambda: None, repr=False)

    def staging(self, place: int = 0) -> Array | None:
        """Where pictures are best put together, [batch, ...]: they go to the GPU from there. None: anywhere."""
        return self._bounds[place].staging if self._bounds else None

    @property
    def device(self) -> int | None:
        """The number of the GPU whose memory it takes pictures from without a detour; None: from no GPU's."""
        return self._bounds[0].device if self._bounds else None

    @property
    def light(self) -> bool:
        """Whether a batch takes less, on the CPU, than to hand it to another thread."""
        return self.provider == CPU and self.runs == 1 and self.warm_ms <= WORTH_A_THREAD_MS

    def rows(self, pictures: int) -> int:
        """How many rows a run with so many pictures takes; those beyond hold anything, and come to nothing."""
        return self.buckets[bisect_left(self.buckets, pictures)] if self.buckets else pictures

    def allow(self, runs: int) -> None:
        """Let so many threads run it at a time, on the CPU. Each run gets new memory for its outputs then."""
        self.runs = runs
        if runs > 1:
            for bound in self._bounds:
                bound.close()
            self._bounds = []

    def run(
        self, feeds: Mapping[str, Array], place: int = 0, there: Mapping[int, DeviceArray] = NOTHING
    ) -> list[Array]:
        """The outputs in the graph's order, valid until the next run at this place: it may write into their memory.

        feeds: every input by name, contiguous; the picture's is [rows, 3, H, W] or [rows, H, W, 3].
        place: from 0 to `runs` - 1; one thread at a time at each. there: rows of the pictures that lie on a GPU;
        whatever `feeds` holds in their place may be overwritten.
        Raises ModelError when the model cannot take it, ProviderError when the GPU fails or it is closed.
        """
        if self._session is None:
            raise ProviderError("the session is closed")
        try:
            return self._run(feeds, place, there)
        except FeedsError as error:
            raise ModelError(f"the model failed to run: {error}") from error
        except _RUN_ERRORS as error:
            if self.provider == CPU:
                raise ModelError(f"the model failed to run: {words(error)}") from error
            raise ProviderError(f"{self.provider} failed to run the model: {words(error)}") from error

    def close(self) -> None:
        """Frees the model and its memory. Not while another thread runs it."""
        for bound in (*self._bounds, *self._former):
            bound.close()
        self._bounds, self._former = [], []
        self._session = None
        self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, feeds: Mapping[str, Array], place: int, there: Mapping[int, DeviceArray]) -> list[Array]:
        bounds = self._bounds
        if not bounds or bounds[place].device is None:
            self._fetch(feeds, there)
            there = NOTHING
        if not bounds:
            return list(self._session.run(self._outputs, feeds))
        try:
            return bounds[place].run(feeds, there)
        except _RUN_ERRORS as error:
            if self.graphs:
                raise  # any other run would be replaced by a graph's replay, or captured in the middle of service
            self._fetch(feeds, there)
            # Outputs may have another size than the file declares, and one that differs from run to run.
            outputs = list(self._session.run(self._outputs, feeds))
            if self._bounds:
                self._bounds, self._former = [], bounds
                if self.gate is not None:
                    self.gate.open()
            self._tell(f"outputs are allocated for each run from now on: {words(error)}")
            return outputs

    def _fetch(self, feeds: Mapping[str, Array], there: Mapping[int, DeviceArray]) -> None:
        for row, picture in there.items():
            feeds[self.graph.input.name][row] = picture.fetch()


def warmed(
    session: Any,
    graph: Graph,
    limit: int,
    memory: Callable[[], Memory] | None,
    notes: list[str],
    tell: Tell,
    places: int = 1,
) -> Session:
    """The session, run with each size of batch that will come, and bound to fixed memory where that can be.

    limit: the most pictures in one run, if the model leaves it open; it may only claim to take any number.
    memory: makes that of a GPU, whose batches are padded to few sizes; None on the CPU. places: how many runs are
    to go on side by side there, each in memory of its own; fewer where that does not suffice.
    Raises ModelError, NotHereError when it does not run. Blocks for some runs.
    """
    provider = session.get_providers()[0]
    names = [tensor.name for tensor in graph.outputs]
    smallest = graph.input.batch or 1
    batch = graph.input.batch or limit
    shapes = {smallest: _try(session, names, black(graph, smallest), provider)}
    while batch > smallest:
        try:
            shapes[batch] = _try(session, names, black(graph, batch), provider)
            break
        except (ModelError, NotHereError) as error:
            notes.append(f"a batch of {batch} does not run ({error}); trying {max(batch // 2, smallest)}")
            batch = max(batch // 2, smallest)
    buckets = _buckets(smallest, batch) if memory is not None or graph.input.batch else ()
    for bucket in buckets:
        if bucket not in shapes:
            shapes[bucket] = _try(session, names, black(graph, bucket), provider)
    made = Session(
        provider, tuple(session.get_providers()), graph, batch, buckets, 0.0, notes, names, session
    )
    made._tell = tell
    _bind(made, memory, shapes, places)
    feeds = black(graph, batch)
    made.warm_ms = run_time_ms(lambda: made.run(feeds))
    return made


def run_time_ms(run: Callable[[], object]) -> float:
    """How long a run takes, after one that is not counted."""
    run()
    started = time.monotonic_ns()
    run()
    return (time.monotonic_ns() - started) / 1e6


def _buckets(smallest: int, batch: int) -> tuple[int, ...]:
    """Powers of two and the largest batch: a run costs at most twice what its pictures need."""
    sizes = [smallest]
    while sizes[-1] < batch:
        sizes.append(min(2 * sizes[-1], batch))
    return tuple(sizes)


def _bind(
    session: Session, memory: Callable[[], Memory] | None, shapes: Mapping[int, list[object]], places: int
) -> None:
    """Fixed memory for the session, or a note why not. shapes: of all outputs, by the size of the batch."""
    graph = session.graph
    outputs = fixed_outputs(graph)
    if outputs is None or any(
        found != [(rows, *output.picture) for output in outputs] for rows, found in shapes.items()
    ):
        if memory is not None:
            session.notes.append("its outputs have no size that is known beforehand: no page-locked memory")
        return
    try:
        if memory is None:
            bound = HostBound(session._session, graph, outputs, session.batch)
            _warm(bound, graph, session.buckets)
            session._bounds = [bound]
        else:
            _bind_to_device(session, outputs, memory, places)
    except _RUN_ERRORS as error:
        session.notes.append(f"inputs and outputs are not bound to fixed memory: {words(error)}")


def _bind_to_device(
    session: Session, outputs: Sequence[Output], memory: Callable[[], Memory], places: int
) -> None:
    """As many sets of memory as there is room for. Raises what ONNX Runtime raises, and LibraryError, for none."""
    graph = session.graph
    gate = Gate()
    options = dict.fromkeys(session.buckets)
    for place in range(places):
        try:
            with ExitStack() as undone:
                far = memory()
                undone.callback(far.close)
                bound = DeviceBound(session._session, graph, outputs, far, options, gate, place)
                _warm(bound, graph, session.buckets)
                undone.pop_all()
        except _RUN_ERRORS as error:
            if not place:
                raise
            session.notes.append(f"no batch is copied while another one runs: {words(error)}")
            break
        session._bounds.append(bound)
    session.runs = len(session._bounds)
    session.gate = gate if session.runs > 1 else None


def _warm(bound: Bound, graph: Graph, buckets: Sequence[int]) -> None:
    for bucket in buckets:
        bound.run(black(graph, bucket))


def _try(session: Any, names: list[str], feeds: Mapping[str, Array], provider: str) -> list[object]:
    """The outputs' shapes. Raises ModelError, NotHereError."""
    try:
        return [getattr(output, "shape", None) for output in session.run(names, feeds)]
    except ORT_ERRORS as error:
        problem = f"it loads but fails at its first run: {words(error)}"
        if provider == CPU:
            raise ModelError(problem) from error
        raise NotHereError(problem) from error
