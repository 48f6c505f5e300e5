"""The chain of providers: the model on the first one that really runs it, and a word about each that does not.

TensorRT needs an engine, which takes minutes to build. Whoever can wait opens the whole chain (`open_session`).
Whoever has to serve meanwhile asks for what is to be waited for (`awaited`), opens what stands behind it in the
chain (`behind`), and has the engine built in another process (`engine_process`), where `build_engine` makes it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from streamd.core.errors import MissingFileError, ModelError, OutputError, ProviderError
from streamd.models import gpu, libraries, tensorrt
from streamd.models.assignment import AssignmentError
from streamd.models.contract import Graph
from streamd.models.engines import EngineCache, EngineError, EngineKey, Tell, model_digest
from streamd.models.session import (
    NAMES,
    NotHereError,
    Provider,
    RuntimeOptions,
    Session,
    cuda_provider,
    open_cpu,
    open_cuda,
    open_on_gpu,
    runtime_version,
)

_NOT_HERE = (NotHereError, AssignmentError, libraries.LibraryError, EngineError, OutputError)
# Guards the making of sessions, which is not thread-safe (onnxruntime #27089). It is held while an engine is built
# in this process, for minutes: so that a process that serves has it built in another one.
_CREATION = threading.Lock()


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that is in the cache, verified and tried. built: whether that was done just now."""

    folder: Path
    built: bool


def open_session(model: Path, graph: Graph, options: RuntimeOptions, tell: Tell = lambda _: None) -> Session:
    """Opens the model on the first provider that runs it, warm. Blocks: seconds, minutes for an engine.

    `tell` is given a line for people before each long wait. Any thread; calls wait for each other.
    Raises ModelError when the model is unusable, MissingFileError when it is not there, ProviderError when
    no provider runs here, or with `fallback: false` when the first does not.
    """
    _check_readable(model)
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
    if not options.fallback:
        notes.append("runtime.fallback is false, so nothing else is tried")
    elif len(options.providers) > 1:
        notes.append("runtime.providers names no other, so nothing else is tried")
    raise ProviderError("; ".join(notes))


def awaited(model: Path, graph: Graph, options: RuntimeOptions) -> RuntimeOptions | None:
    """The first provider alone, when all that it lacks is an engine; None when it needs none, has it, or cannot run.

    Looks and builds nothing: loads libraries, asks the GPU, looks the engine up. An engine that turns out to be
    damaged only when all of it is read counts as there; `open_session` then builds it again.
    Raises MissingFileError. Any thread.
    """
    first = options.providers[0]
    if first != "tensorrt":
        return None
    _check_readable(model)
    try:
        cache, key = _place(model, graph, options)
        there = cache.seems_to_hold(key)
    except _NOT_HERE:
        return None  # why not is told when the chain is opened
    return None if there else replace(options, providers=(first,), fallback=True)


def behind(options: RuntimeOptions) -> RuntimeOptions | None:
    """The chain without its first provider; None when nothing else may run."""
    rest = options.providers[1:]
    return replace(options, providers=rest) if rest and options.fallback else None


def build_engine(model: Path, graph: Graph, options: RuntimeOptions, tell: Tell = lambda _: None) -> Engine:
    """Builds TensorRT's engine unless the cache holds it, and runs the model on it. Blocks for minutes.

    The providers of `options` and `fallback` do not count. Any thread; calls wait for each other.
    Raises ProviderError when TensorRT does not run here, ModelError, MissingFileError.
    """
    _check_readable(model)
    with _CREATION:
        try:
            session, engine = _on_engine(model, graph, options, [], tell)
        except ModelError as error:
            raise ModelError(f"{model}: {error}") from error.__cause__
        except _NOT_HERE as error:
            raise ProviderError(f"tensorrt does not run here: {error}") from error
    session.close()
    return engine


def _check_readable(model: Path) -> None:
    if not os.access(model, os.R_OK):
        raise MissingFileError(f"{model}: no such model file, or it may not be read")


def _place(model: Path, graph: Graph, options: RuntimeOptions) -> tuple[EngineCache, EngineKey]:
    """Where this model's engine belongs. Loads TensorRT's libraries. Raises NotHereError, LibraryError."""
    libraries.load(libraries.TENSORRT)
    try:
        asked = tensorrt.tensorrt_options(
            graph, options.batch_limit, options.precision, options.device, Path(), Path()
        )
    except ValueError as error:
        raise NotHereError(str(error)) from error
    card = gpu.read_gpu(options.device)
    key = EngineKey(
        {
            "format": 1,
            "model": model_digest(model),
            "onnxruntime": runtime_version(),
            "tensorrt": libraries.tensorrt_version(),
            "cuda_runtime": libraries.cuda_runtime_version(),
            "gpu": {name: getattr(card, name) for name in card.__slots__},
            "options": tensorrt.without_paths(asked),
            "batches": sorted({graph.input.batch or 1, graph.input.batch or options.batch_limit}),
        }
    )
    return EngineCache(options.cache_dir), key


def _on_engine(
    model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell
) -> tuple[Session, Engine]:
    """A session on the cached engine, which is built first when it is not there."""
    cache, key = _place(model, graph, options)
    timings = cache.timings(key, ("tensorrt", "cuda_runtime", "gpu"))
    built: list[Path] = []

    def on(engines: Path, source: Path, *, writing: bool = False) -> Session:
        chosen = tensorrt.tensorrt_options(
            graph, options.batch_limit, options.precision, options.device, engines, timings
        )
        if writing:
            chosen = tensorrt.writing_context(chosen, engines)
        return open_on_gpu(
            source, graph, options, notes, [(NAMES["tensorrt"], chosen), cuda_provider(options)]
        )

    def on_context(engines: Path) -> Session:
        try:
            return on(engines, engines / tensorrt.CONTEXT)
        except ModelError as error:
            raise NotHereError(str(error)) from error

    def build(engines: Path) -> None:
        tell(f"building the TensorRT engine of {model.name}; this takes minutes, the next start will not")
        timings.mkdir(exist_ok=True)
        built.append(engines)
        try:
            on(engines, model, writing=True).close()
            on_context(engines).close()
        except _NOT_HERE as error:
            # Whether the context model or the engine itself is at fault only a build without the one can tell.
            (engines / tensorrt.CONTEXT).unlink(missing_ok=True)
            on(engines, model).close()
            tell(f"no context model for {model.name}, each start will parse the model: {error}")

    with cache.engine(key, build, tell) as engines:
        session = None
        if (engines / tensorrt.CONTEXT).is_file():
            try:
                session = on_context(engines)
            except _NOT_HERE as error:
                notes.append(f"the engine's context model does not load, so the model is parsed: {error}")
        session = session or on(engines, model)
        if flaw := cache.flaw(key):
            session.notes.append(
                f"the cached engine was not used as it is ({flaw}) and is built again next time"
            )
        return session, Engine(engines, bool(built))


def _open_tensorrt(
    model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], tell: Tell
) -> Session:
    return _on_engine(model, graph, options, notes, tell)[0]


_Opener: TypeAlias = Callable[[Path, Graph, RuntimeOptions, list[str], Tell], Session]
_OPENERS: Mapping[Provider, _Opener] = {"tensorrt": _open_tensorrt, "cuda": open_cuda, "cpu": open_cpu}
