"""Makes ONNX Runtime's sessions, and puts into words what it complains about."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from streamd.core.errors import ModelError
from streamd.models.assignment import CPU
from streamd.models.contract import Graph

Providers: TypeAlias = list[tuple[str, dict[str, str]]]

# What ONNX Runtime raises: its own types, and RuntimeError and ValueError from the Python binding.
ORT_ERRORS = (
    ort.DeviceReset, ort.EPFail, ort.EngineError, ort.Fail, ort.InvalidArgument, ort.InvalidGraph,
    ort.InvalidProtobuf, ort.ModelLoadCanceled, ort.ModelLoaded, ort.ModelRequiresCompilation, ort.NoModel,
    ort.NoSuchFile, ort.NotFound, ort.NotImplemented, ort.RuntimeException, RuntimeError, ValueError,
)  # fmt: skip
_BAD_MODEL = (ort.InvalidProtobuf, ort.InvalidGraph, ort.NoModel)
_FATAL_ONLY = 4
# ONNX Runtime does not promise that sessions may be made side by side: decoder threads make theirs while a model is
# loaded.
_MAKING = threading.Lock()


class NotHereError(Exception):
    """This provider does not run here; the message says why and what mends it."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a session is made of: a model file as it is, or what was joined to it (`content`)."""

    path: Path
    graph: Graph
    """What the session takes and gives."""
    content: bytes | None = None
    key: str = ""
    """What was joined, for the key of an engine; "" for the file as it is."""


def quieten() -> None:
    """ONNX Runtime writes to stderr past every logger; what it has to say comes back as an error as well."""
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)


def create(
    source: Source, providers: Providers, threads: int, entries: Mapping[str, str] | None = None
) -> Any:
    """ONNX Runtime's session, headed by the first of `providers`. Raises ModelError, NotHereError."""
    chosen = _options(threads)
    chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if source.content is not None:
        # Bytes have no folder, in which external weights would be looked for.
        folder = str(source.path.parent.absolute())
        chosen.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    for key, value in (entries or {}).items():
        chosen.add_session_config_entry(key, value)
    wanted = providers[0][0]
    content = str(source.path) if source.content is None else source.content
    try:
        return _made(content, chosen, providers)
    except ORT_ERRORS as error:
        # A file that cannot be read is the model's fault on any provider; anything else on the CPU only.
        if wanted == CPU or isinstance(error, _BAD_MODEL) or "Load model from" in str(error):
            raise ModelError(f"ONNX Runtime does not take the model: {words(error)}") from error
        raise NotHereError(f"no session could be made: {words(error)}") from error


def run_options(entries: Mapping[str, str]) -> Any:
    """ONNX Runtime's options for single runs."""
    chosen = onnxruntime.RunOptions()
    for key, value in entries.items():
        chosen.add_run_config_entry(key, value)
    return chosen


def create_whole(content: bytes, provider: tuple[str, dict[str, str]]) -> Any:
    """A session of a graph of our own, every node of it on this one provider. Raises NotHereError."""
    chosen = _options(1)
    if provider[0] != CPU:
        chosen.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return _made(content, chosen, [provider])
    except ORT_ERRORS as error:
        raise NotHereError(f"no session could be made: {words(error)}") from error


def _made(content: str | bytes, chosen: Any, providers: Providers) -> Any:
    """A session on the first of `providers` or none. Raises NotHereError, and what ONNX Runtime raises."""
    with _MAKING:
        session = onnxruntime.InferenceSession(content, chosen, providers=providers, enable_fallback=0)
    session.disable_fallback()
    if session.get_providers()[0] != providers[0][0]:
        raise NotHereError(f"ONNX Runtime made a session on {session.get_providers()[0]} instead")
    return session


def _options(threads: int) -> Any:
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = _FATAL_ONLY
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads would take a core from the decoders.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


def versions() -> list[str]:
    """ONNX Runtime's version, and how it was built."""
    return [onnxruntime.__version__, onnxruntime.get_build_info()]


def available_providers() -> list[str]:
    """The providers that ONNX Runtime was built with, best first; whether one runs here is another question."""
    return list(onnxruntime.get_available_providers())


def operators(session: Any) -> dict[str, list[str]]:
    """The types of the nodes that each provider runs."""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return found


def words(error: BaseException) -> str:
    """ONNX Runtime's own words in one line, without its paths and codes."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"/onnxruntime_src/\S+ ", "", text)
    return text if len(text) <= 240 else f"{text[:239]}…"
