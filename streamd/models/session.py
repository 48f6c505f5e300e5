"""A model that runs on one provider: really there, and not on another one that ONNX Runtime took instead.

ONNX Runtime serves from the CPU when a GPU provider cannot be had, prints that to stderr and goes on. Here a
session is kept only after its libraries were loaded, the provider heads the session's list, the nodes that
do the work are assigned to it, and it has run. GPU providers are written against the documentation and
ONNX Runtime's source; on a machine without a GPU only their refusals are proven.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from streamd.core.errors import ModelError, ProviderError
from streamd.models import gpu, libraries
from streamd.models.assignment import CPU, judge
from streamd.models.contract import Array, Graph
from streamd.models.engines import Tell
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


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What executes the model.

    batch_limit: the most pictures in one run. cpu_batch_limit: the same on the CPU, where a batch takes as long
    as its pictures one by one, and each of them would wait for the last. cpu_threads: None means all cores that
    this process may use.
    """

    providers: tuple[Provider, ...]
    fallback: bool
    precision: Literal["fp16", "fp32"]
    device: int
    cache_dir: Path
    batch_limit: int
    cpu_threads: int | None = None
    cpu_batch_limit: int = 1


class NotHereError(Exception):
    """This provider does not run here; the message says why and what mends it."""


@dataclass(slots=True)
class Session:
    """A warm session. One thread at a time; `run` blocks and releases the GIL."""

    provider: str
    """ONNX Runtime's name of what really runs the model."""
    providers: tuple[str, ...]
    """All that the session has, in order."""
    batch: int
    """The most pictures in one run: the model's number, else as many of `batch_limit` as were proven."""
    warm_ms: float
    """How long a run of `batch` pictures took once it was warm."""
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


def runtime_version() -> list[str]:
    """ONNX Runtime's version, and what it was built from."""
    return [onnxruntime.__version__, onnxruntime.get_build_info()]


def open_cpu(model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    """A warm session on the CPU. Raises ModelError."""
    session = _create(model, [(CPU, {})], options.cpu_threads or _cores())
    return _warm(session, graph, replace(options, batch_limit=options.cpu_batch_limit), notes)


def _cores() -> int:
    """The cores that this process may use; only Linux tells them from those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_cuda(model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    """A warm session on the GPU. Raises ModelError, NotHereError, LibraryError, AssignmentError."""
    libraries.load(libraries.CUDA)
    gpu.read_gpu(options.device)
    return open_on_gpu(model, graph, options, notes, [cuda_provider(options)])


def cuda_provider(options: RuntimeOptions) -> tuple[str, dict[str, str]]:
    """CUDA with its options, as ONNX Runtime takes them."""
    # The exhaustive search, the default, halts service whenever a batch has a size not met before.
    chosen = {"device_id": str(options.device), "cudnn_conv_algo_search": "HEURISTIC"}
    return NAMES["cuda"], chosen


def open_on_gpu(
    model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], providers: Providers
) -> Session:
    """A warm session headed by the first of `providers`.

    Without any node on the CPU where that can be, else with those there that do no work to speak of.
    Raises ModelError, NotHereError, AssignmentError.
    """
    try:
        session = _create(model, providers, 1, {"session.disable_cpu_ep_fallback": "1"})
    except NotHereError:
        session = _create(model, providers, 1)
    remarks = judge(_operators(session), providers[0][0])
    return _warm(session, graph, options, [*notes, *remarks])


def _create(model: Path, providers: Providers, threads: int, entries: Mapping[str, str] | None = None) -> Any:
    """ONNX Runtime's session, headed by the first of `providers`. Raises ModelError, NotHereError."""
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
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
        raise NotHereError(f"no session could be made: {_words(error)}") from error
    session.disable_fallback()
    if session.get_providers()[0] != wanted:
        raise NotHereError(f"ONNX Runtime made a session on {session.get_providers()[0]} instead")
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
        except (ModelError, NotHereError) as error:
            notes.append(f"a batch of {batch} does not run ({error}); trying {max(batch // 2, smallest)}")
            batch = max(batch // 2, smallest)
    feeds = black(graph, batch)
    started = time.monotonic_ns()
    _try(session, names, feeds, provider)
    warm_ms = (time.monotonic_ns() - started) / 1e6
    return Session(provider, tuple(session.get_providers()), batch, warm_ms, notes, names, session)


def _try(session: Any, names: list[str], feeds: Mapping[str, Array], provider: str) -> None:
    try:
        session.run(names, feeds)
    except _ORT_ERRORS as error:
        problem = f"it loads but fails at its first run: {_words(error)}"
        if provider == CPU:
            raise ModelError(problem) from error
        raise NotHereError(problem) from error


def _words(error: BaseException) -> str:
    """ONNX Runtime's own words in one line, without its paths and codes."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"/onnxruntime_src/\S+ ", "", text)
    return text if len(text) <= 240 else f"{text[:239]}…"
