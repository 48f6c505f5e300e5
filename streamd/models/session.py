"""A model that runs, on the first provider of a chain that really can, and a word about each that could not.

ONNX Runtime serves from the CPU when a GPU provider cannot be had, prints that to stderr and goes on. Here a
session is kept only after its libraries were loaded, the provider heads the session's list, the nodes that
do the work are assigned to it, and it has run. GPU providers are written against the documentation and
ONNX Runtime's source; on a machine without a GPU only their refusals are proven.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from streamd.core.errors import MissingFileError, ModelError, OutputError, ProviderError
from streamd.models import gpu, libraries, tensorrt
from streamd.models.assignment import CPU, AssignmentError, judge
from streamd.models.contract import Array, Graph
from streamd.models.engines import EngineCache, EngineError, EngineKey, Tell, model_digest
from streamd.models.shapes import black

Provider: TypeAlias = Literal["tensorrt", "cuda", "cpu"]
Providers: TypeAlias = list[tuple[str, dict[str, str]]]

NAMES: Mapping[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": CPU,
}
# What ONNX Runtime raises: its own types, and RuntimeError and ValueError from the Python binding.
_ORT_ERRORS = (
    ort.DeviceReset, ort.EPFail, ort.EngineError, ort.Fail, ort.InvalidArgument, ort.InvalidGraph,
    ort.InvalidProtobuf, ort.ModelLoadCanceled, ort.ModelLoaded, ort.ModelRequiresCompilation, ort.NoModel,
    ort.NoSuchFile, ort.NotFound, ort.NotImplemented, ort.RuntimeException, RuntimeError, ValueError,
)  # fmt: skip
_BAD_MODEL = (ort.InvalidProtobuf, ort.InvalidGraph, ort.NoModel)
_FATAL_ONLY = 4
_WORTH_A_THREAD_MS = 1.0
"""A model that is faster is not run side by side: handing pictures to several threads would cost as much."""
# Guards the making of sessions, which is not thread-safe (onnxruntime #27089).
_CREATION = threading.Lock()


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What executes the model.

    batch_limit: the most pictures in one run. cpu_batch_limit: the same on the CPU, where a batch takes as long
    as its pictures one by one, and each of them would wait for the last. cpu_runs: how many runs go on side by
    side on the CPU, each on its share of the cores that this process may use; None: one on each core.
    """

    providers: tuple[Provider, ...]
    fallback: bool
    precision: Literal["fp16", "fp32"]
    device: int
    cache_dir: Path
    batch_limit: int
    cpu_runs: int | None = 1
    cpu_batch_limit: int = 1


class _NotHereError(Exception):
    """This provider does not run here; the message says why and what mends it."""


_NOT_HERE = (_NotHereError, AssignmentError, libraries.LibraryError, EngineError, OutputError)


@dataclass(slots=True)
class Session:
    """A warm session. `runs` threads at a time; `run` blocks and releases the GIL."""

    provider: str
    """ONNX Runtime's name of what really runs the model."""
    providers: tuple[str, ...]
    """All that the session has, in order."""
    batch: int
    """The most pictures in one run: the model's number, else as many of `batch_limit` as were proven."""
    runs: int
    """How many runs may go on side by side."""
    warm_ms: float
    """How long a run of `batch` pictures took once it was warm, with no other beside it."""
    notes: list[str]
    """What was tried and not taken, and what is not as asked; a line each, for the log."""
    _outputs: list[str]
    _session: Any = field(repr=False)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in the graph's order, new arrays.

        feeds: every input by name; the picture's is [n, 3, H, W] or [n, H, W, 3], n up to `batch`.
        Raises ModelError when the model cannot take it, ProviderError when the GPU fails or it is closed.
        """
        if self._session is None:
            raise ProviderError("the session is closed")
        try:
            return list(self._session.run(self._outputs, feeds))
        except _ORT_ERRORS as error:
            if self.provider == CPU:
                raise ModelError(f"the model failed to run: {_words(error)}") from error
            raise ProviderError(f"{self.provider} failed to run the model: {_words(error)}") from error

    def close(self) -> None:
        """Frees the model and its memory. Not while another thread runs it."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_session(model: Path, graph: Graph, options: RuntimeOptions, tell: Tell = lambda _: None) -> Session:
    """Opens the model on the first provider that runs it, warm. Blocks: seconds, minutes for an engine.

    `tell` is given a line for people before each long wait. Any thread; calls wait for each other.
    Raises ModelError when the model is unusable, MissingFileError when it is not there, ProviderError when
    no provider runs here, or with `fallback: false` when the first does not.
    """
    if not os.access(model, os.R_OK):
        raise MissingFileError(f"{model}: no such model file, or it may not be read")
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    notes: list[str] = []
    with _CREATION:
        for provider in options.providers:
            try:
                return _OPENERS[provider](model, graph, options, notes, tell)
            except ModelError as error:
                raise ModelError(f"{model}: {error}") from error.__cause__
            except _NOT_HERE as error:
                notes.append(f"{provider} does not run here: {error}")
                if not options.fallback:
                    break
    end = "runtime.providers names no other" if options.fallback else "runtime.fallback is false"
    raise ProviderError(f"{'; '.join(notes)}; {end}, so nothing else is tried")


def _open_cpu(model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    cores = _cores()
    runs = min(cores, options.cpu_runs or cores)
    session = _create(model, [(CPU, {})], cores // runs)
    warm = _warm(session, graph, replace(options, batch_limit=options.cpu_batch_limit), notes)
    return replace(warm, runs=runs if warm.warm_ms > _WORTH_A_THREAD_MS else 1)


def _cores() -> int:
    """The cores that this process may use; only Linux tells them from those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_cuda(model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    libraries.load(libraries.CUDA)
    gpu.read_gpu(options.device)
    return _open_on_gpu(model, graph, options, notes, [_cuda(options)])


def _cuda(options: RuntimeOptions) -> tuple[str, dict[str, str]]:
    # The exhaustive search, the default, halts service whenever a batch has a size not met before.
    chosen = {"device_id": str(options.device), "cudnn_conv_algo_search": "HEURISTIC"}
    return NAMES["cuda"], chosen


def _open_tensorrt(
    model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell
) -> Session:
    libraries.load(libraries.TENSORRT)
    cache = EngineCache(options.cache_dir)
    try:
        key = _engine_key(model, graph, options)
    except ValueError as error:
        raise _NotHereError(str(error)) from error
    timings = cache.timings(key, ("tensorrt", "cuda_runtime", "gpu"))

    def on(engines: Path) -> Session:
        chosen = tensorrt.tensorrt_options(
            graph, options.batch_limit, options.precision, options.device, engines, timings
        )
        return _open_on_gpu(model, graph, options, notes, [(NAMES["tensorrt"], chosen), _cuda(options)])

    def build(engines: Path) -> None:
        tell(f"building the TensorRT engine of {model.name}; this takes minutes, the next start will not")
        timings.mkdir(exist_ok=True)
        on(engines).close()

    with cache.engine(key, build, tell) as engines:
        session = on(engines)
        if flaw := cache.flaw(key):
            session.notes.append(
                f"the cached engine was not used as it is ({flaw}) and is built again next time"
            )
        return session


_Opener: TypeAlias = Callable[[Path, Graph, RuntimeOptions, list[str], Tell], Session]
_OPENERS: Mapping[Provider, _Opener] = {"tensorrt": _open_tensorrt, "cuda": _open_cuda, "cpu": _open_cpu}


def _engine_key(model: Path, graph: Graph, options: RuntimeOptions) -> EngineKey:
    """All that an engine depends on. Needs the libraries loaded."""
    asked = tensorrt.tensorrt_options(
        graph, options.batch_limit, options.precision, options.device, Path(), Path()
    )
    card = gpu.read_gpu(options.device)
    return EngineKey(
        {
            "format": 1,
            "model": model_digest(model),
            "onnxruntime": [onnxruntime.__version__, onnxruntime.get_build_info()],
            "tensorrt": libraries.tensorrt_version(),
            "cuda_runtime": libraries.cuda_runtime_version(),
            "gpu": {name: getattr(card, name) for name in card.__slots__},
            "options": tensorrt.without_paths(asked),
            "batches": sorted({graph.input.batch or 1, graph.input.batch or options.batch_limit}),
        }
    )


def _open_on_gpu(
    model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], providers: Providers
) -> Session:
    """Without any node on the CPU where that can be, else with those there that do no work to speak of."""
    try:
        session = _create(model, providers, 1, {"session.disable_cpu_ep_fallback": "1"})
    except _NotHereError:
        session = _create(model, providers, 1)
    remarks = judge(_operators(session), providers[0][0])
    return _warm(session, graph, options, [*notes, *remarks])


def _create(model: Path, providers: Providers, threads: int, entries: Mapping[str, str] | None = None) -> Any:
    """ONNX Runtime's session, headed by the first of `providers`. Raises ModelError, _NotHereError."""
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = _FATAL_ONLY
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads would take a core from the decoders.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for key, value in (entries or {}).items():
        chosen.add_session_config_entry(key, value)
    wanted = providers[0][0]
    try:
        session = onnxruntime.InferenceSession(str(model), chosen, providers=providers, enable_fallback=0)
    except _ORT_ERRORS as error:
        # A file that cannot be read is the model's fault on any provider; anything else on the CPU only.
        if wanted == CPU or isinstance(error, _BAD_MODEL) or "Load model from" in str(error):
            raise ModelError(f"ONNX Runtime does not take the model: {_words(error)}") from error
        raise _NotHereError(f"no session could be made: {_words(error)}") from error
    session.disable_fallback()
    if session.get_providers()[0] != wanted:
        raise _NotHereError(f"ONNX Runtime made a session on {session.get_providers()[0]} instead")
    return session


def _operators(session: Any) -> dict[str, list[str]]:
    """The types of the nodes that each provider runs."""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return found


def _warm(session: Any, graph: Graph, options: RuntimeOptions, notes: list[str]) -> Session:
    """Runs one picture, and as many as will ever come: a model may only claim to take any number."""
    provider = session.get_providers()[0]
    smallest = graph.input.batch or 1
    batch = graph.input.batch or options.batch_limit
    names = [tensor.name for tensor in graph.outputs]
    _try(session, names, black(graph, smallest), provider)
    while batch > smallest:
        try:
            _try(session, names, black(graph, batch), provider)
            break
        except (ModelError, _NotHereError) as error:
            notes.append(f"a batch of {batch} does not run ({error}); trying {max(batch // 2, smallest)}")
            batch = max(batch // 2, smallest)
    feeds = black(graph, batch)
    started = time.monotonic_ns()
    _try(session, names, feeds, provider)
    warm_ms = (time.monotonic_ns() - started) / 1e6
    return Session(provider, tuple(session.get_providers()), batch, 1, warm_ms, notes, names, session)


def _try(session: Any, names: list[str], feeds: Mapping[str, Array], provider: str) -> None:
    try:
        session.run(names, feeds)
    except _ORT_ERRORS as error:
        problem = f"it loads but fails at its first run: {_words(error)}"
        if provider == CPU:
            raise ModelError(problem) from error
        raise _NotHereError(problem) from error


def _words(error: BaseException) -> str:
    """ONNX Runtime's own words in one line, without its paths and codes."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"/onnxruntime_src/\S+ ", "", text)
    return text if len(text) <= 240 else f"{text[:239]}…"
