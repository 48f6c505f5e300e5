"""A model that runs on one provider: really there, and not on another one that ONNX Runtime took instead.

ONNX Runtime serves from the CPU when a GPU provider cannot be had, prints that to stderr and goes on. Here a
session is kept only after its libraries were loaded, the provider heads the session's list, the nodes that
do the work are assigned to it, and it has run. GPU providers are written against the documentation and
ONNX Runtime's source; on a machine without a GPU only their refusals are proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from streamd.core.cores import usable_cores
from streamd.models import gpu, libraries
from streamd.models.assignment import CPU, judge
from streamd.models.capture import captured, graph_option
from streamd.models.creation import NotHereError, Providers, Source, create, operators
from streamd.models.engines import Tell
from streamd.models.memory import CudaMemory
from streamd.models.running import WORTH_A_THREAD_MS, Session, warmed

Provider: TypeAlias = Literal["tensorrt", "cuda", "cpu"]

NAMES: Mapping[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": CPU,
}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What executes the model.

    batch_limit: the most pictures in one run. cpu_batch_limit: the same on the CPU; None: as many if a picture takes
    next to nothing, else one, since a batch takes as long as its pictures one by one, and each of them would wait for
    the last. cpu_runs: how many runs go on side by side on the CPU, each on its share of the cores that this process
    may use; None: one on each core. gpu_runs: the same on a GPU, where one batch runs while the next one is copied; 1
    takes half the memory for inputs and outputs. uint8_input: where pictures go to the model as bytes, scaled and
    normalised in its graph. cuda_graph: whether a GPU replays CUDA graphs; nothing else may use the GPU while the
    session is opened.
    """

    providers: tuple[Provider, ...]
    fallback: bool
    precision: Literal["fp16", "fp32"]
    device: int
    cache_dir: Path
    batch_limit: int
    cpu_runs: int | None = 1
    cpu_batch_limit: int | None = None
    uint8_input: frozenset[Provider] = frozenset({"tensorrt", "cuda"})
    gpu_runs: int = 2
    cuda_graph: bool = False


def open_cpu(source: Source, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    """A warm session on the CPU: pictures side by side, or, if each takes next to nothing, in batches.

    Raises ModelError.
    """
    if options.cuda_graph:
        notes.append("runtime.cuda_graph does nothing on the CPU")
    runs = runs_on_cpu(options)
    session = create(source, [(CPU, {})], usable_cores() // runs)
    batch = options.cpu_batch_limit
    warm = warmed(session, source.graph, batch or 1, None, notes, tell)
    if warm.warm_ms > WORTH_A_THREAD_MS:
        warm.allow(runs)
    elif batch is None and options.batch_limit > 1:
        return warmed(session, source.graph, options.batch_limit, None, notes, tell)
    return warm


def runs_on_cpu(options: RuntimeOptions) -> int:
    """How many runs go on side by side there, unless each takes next to nothing."""
    cores = usable_cores()
    return min(cores, options.cpu_runs or cores)


def open_cuda(source: Source, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    """A warm session on the GPU. Raises ModelError, NotHereError, LibraryError, AssignmentError."""
    libraries.load(libraries.CUDA)
    gpu.read_gpu(options.device)
    return open_on_gpu(source, options, notes, tell, [cuda_provider(options)])


def cuda_provider(options: RuntimeOptions) -> tuple[str, dict[str, str]]:
    """CUDA with its options, as ONNX Runtime takes them."""
    # The exhaustive search, the default, halts service whenever a batch has a size not met before.
    chosen = {"device_id": str(options.device), "cudnn_conv_algo_search": "HEURISTIC"}
    return NAMES["cuda"], chosen


def open_on_gpu(
    source: Source, options: RuntimeOptions, notes: list[str], tell: Tell, providers: Providers
) -> Session:
    """A warm session headed by the first of `providers`.

    Without any node on the CPU where that can be, else with those there that do no work to speak of.
    With CUDA graphs where they are asked for and can be had. Raises ModelError, NotHereError, AssignmentError.
    """
    try:
        session = create(source, providers, 1, {"session.disable_cpu_ep_fallback": "1"})
    except NotHereError:
        session = create(source, providers, 1)
    remarks = judge(operators(session), providers[0][0])
    memory = partial(CudaMemory, options.device)
    limit, found = options.batch_limit, [*notes, *remarks]
    warm = warmed(session, source.graph, limit, memory, found, tell, options.gpu_runs)
    if options.cuda_graph:
        return captured(warm, lambda: create(source, graph_option(providers), 1), memory)
    return warm
