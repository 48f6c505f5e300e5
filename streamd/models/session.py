"""A model that runs, on the first provider of a chain that really can, and a word about each that could not.

ONNX Runtime serves from the CPU when a GPU provider cannot be had, prints that to stderr and goes on. Here a
session is kept only after its libraries were loaded, the provider heads the session's list, the nodes that
do the work are assigned to it, and it has run. GPU providers are written against the documentation and
ONNX Runtime's source; on a machine without a GPU only their refusals are proven.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from streamd.core.errors import MissingFileError, ModelError, OutputError, ProviderError
from streamd.models import gpu, libraries, tensorrt
from streamd.models.assignment import CPU, AssignmentError, judge
from streamd.models.contract import Graph, InputContract
from streamd.models.creation import NotHereError, Providers, Source, create, operators, quieten, versions
from streamd.models.engines import EngineCache, EngineError, EngineKey, Tell, model_digest
from streamd.models.memory import CudaMemory
from streamd.models.running import Session, warmed

Provider: TypeAlias = Literal["tensorrt", "cuda", "cpu"]

NAMES: Mapping[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": CPU,
}
_WORTH_A_THREAD_MS = 1.0
"""A model that is faster is not run side by side: handing pictures to several threads would cost as much."""

# Guards the making of sessions, which is not thread-safe (onnxruntime #27089).
_CREATION = threading.Lock()


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What executes the model.

    batch_limit: the most pictures in one run. cpu_batch_limit: the same on the CPU, where a batch takes as long
    as its pictures one by one, and each of them would wait for the last. cpu_runs: how many runs go on side by
    side on the CPU, each on its share of the cores that this process may use; None: one on each core. uint8_input:
    where pictures go to the model as bytes, scaled and normalised in its graph.
    """

    providers: tuple[Provider, ...]
    fallback: bool
    precision: Literal["fp16", "fp32"]
    device: int
    cache_dir: Path
    batch_limit: int
    cpu_runs: int | None = 1
    cpu_batch_limit: int = 1
    uint8_input: frozenset[Provider] = frozenset({"tensorrt", "cuda"})


# What the next provider would answer as well, or with a graph that differs only in its input the same one.
_ANYWAY = (libraries.LibraryError, OutputError)
_NOT_HERE = (NotHereError, AssignmentError, EngineError, *_ANYWAY)


def open_session(
    model: Path,
    graph: Graph,
    options: RuntimeOptions,
    tell: Tell = lambda _: None,
    contract: InputContract | None = None,
) -> Session:
    """Opens the model on the first provider that runs it, warm. Blocks: seconds, minutes for an engine.

    `tell` is given a line for people before each long wait. contract: what the model wants in its input, so that
    a uint8 one can be joined to it where `uint8_input` says so (`Session.graph` tells); None: the model as it is.
    Any thread; calls wait for each other.
    Raises ModelError when the model is unusable, MissingFileError when it is not there, ProviderError when
    no provider runs here, or with `fallback: false` when the first does not.
    """
    if not os.access(model, os.R_OK):
        raise MissingFileError(f"{model}: no such model file, or it may not be read")
    quieten()
    notes: list[str] = []
    with _CREATION:
        for provider in options.providers:
            joining = contract if provider in options.uint8_input else None
            for source in _sources(model, graph, joining, notes):
                try:
                    return _OPENERS[provider](source, options, notes, tell)
                except ModelError as error:
                    if not source.key:
                        raise ModelError(f"{model}: {error}") from error.__cause__
                    notes.append(f"{provider} does not run it with a uint8 input: {error}")
                except _ANYWAY as error:
                    notes.append(f"{provider} does not run here: {error}")
                    break
                except _NOT_HERE as error:
                    form = "it with a uint8 input" if source.key else "here"
                    notes.append(f"{provider} does not run {form}: {error}")
            if not options.fallback:
                break
    end = "runtime.providers names no other" if options.fallback else "runtime.fallback is false"
    raise ProviderError(f"{'; '.join(notes)}; {end}, so nothing else is tried")


def _sources(model: Path, graph: Graph, contract: InputContract | None, notes: list[str]) -> Iterator[Source]:
    """The model with a uint8 input, where that is wanted and can be, then as it is."""
    if contract is not None and graph.input.dtype.kind == "f":
        # It imports onnx, which no session needs otherwise.
        from streamd.models.prologue import PrologueError, join

        try:
            joined = join(model, graph, contract)
            yield Source(model, joined.graph, joined.content, joined.key)
        except PrologueError as error:
            notes.append(f"the model keeps its {graph.input.dtype} input: {error}")
    yield Source(model, graph)


def _open_cpu(source: Source, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    cores = _cores()
    runs = min(cores, options.cpu_runs or cores)
    session = create(source, [(CPU, {})], cores // runs)
    warm = warmed(session, source.graph, options.cpu_batch_limit, None, notes, tell)
    if warm.warm_ms > _WORTH_A_THREAD_MS:
        warm.allow(runs)
    return warm


def _cores() -> int:
    """The cores that this process may use; only Linux tells them from those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_cuda(source: Source, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    libraries.load(libraries.CUDA)
    gpu.read_gpu(options.device)
    return _open_on_gpu(source, options, notes, tell, [_cuda(options)])


def _cuda(options: RuntimeOptions) -> tuple[str, dict[str, str]]:
    # The exhaustive search, the default, halts service whenever a batch has a size not met before.
    chosen = {"device_id": str(options.device), "cudnn_conv_algo_search": "HEURISTIC"}
    return NAMES["cuda"], chosen


def _open_tensorrt(source: Source, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    libraries.load(libraries.TENSORRT)
    cache = EngineCache(options.cache_dir)
    try:
        key = _engine_key(source, options)
    except ValueError as error:
        raise NotHereError(str(error)) from error
    timings = cache.timings(key, ("tensorrt", "cuda_runtime", "gpu"))

    def on(engines: Path) -> Session:
        chosen = tensorrt.tensorrt_options(
            source.graph, options.batch_limit, options.precision, options.device, engines, timings
        )
        return _open_on_gpu(source, options, notes, tell, [(NAMES["tensorrt"], chosen), _cuda(options)])

    def build(engines: Path) -> None:
        name = source.path.name
        tell(f"building the TensorRT engine of {name}; this takes minutes, the next start will not")
        timings.mkdir(exist_ok=True)
        on(engines).close()

    with cache.engine(key, build, tell) as engines:
        session = on(engines)
        if flaw := cache.flaw(key):
            session.notes.append(
                f"the cached engine was not used as it is ({flaw}) and is built again next time"
            )
        return session


_Opener: TypeAlias = Callable[[Source, RuntimeOptions, list[str], Tell], Session]
_OPENERS: Mapping[Provider, _Opener] = {"tensorrt": _open_tensorrt, "cuda": _open_cuda, "cpu": _open_cpu}


def _engine_key(source: Source, options: RuntimeOptions) -> EngineKey:
    """All that an engine depends on. Needs the libraries loaded."""
    graph = source.graph
    asked = tensorrt.tensorrt_options(
        graph, options.batch_limit, options.precision, options.device, Path(), Path()
    )
    card = gpu.read_gpu(options.device)
    return EngineKey(
        {
            "format": 2,
            "model": model_digest(source.path),
            "joined": source.key,
            "onnxruntime": versions(),
            "tensorrt": libraries.tensorrt_version(),
            "cuda_runtime": libraries.cuda_runtime_version(),
            "gpu": {name: getattr(card, name) for name in card.__slots__},
            "options": tensorrt.without_paths(asked),
            "batches": sorted({graph.input.batch or 1, graph.input.batch or options.batch_limit}),
        }
    )


def _open_on_gpu(
    source: Source, options: RuntimeOptions, notes: list[str], tell: Tell, providers: Providers
) -> Session:
    """Without any node on the CPU where that can be, else with those there that do no work to speak of."""
    try:
        session = create(source, providers, 1, {"session.disable_cpu_ep_fallback": "1"})
    except NotHereError:
        session = create(source, providers, 1)
    remarks = judge(operators(session), providers[0][0])
    memory = partial(CudaMemory, options.device)
    return warmed(session, source.graph, options.batch_limit, memory, [*notes, *remarks], tell)
