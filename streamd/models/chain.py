"""The chain of providers: the model on the first one that really runs it, and a word about each that does not.

Where pictures are to travel as bytes, each provider is offered the model with a uint8 input first, then as it is.

TensorRT needs an engine, which takes minutes to build. Whoever can wait opens the whole chain (`open_session`).
Whoever has to serve meanwhile asks for what is to be waited for (`awaited`), opens what stands behind it in the
chain (`meanwhile`), and has the engine built in another process (`engine_process`), where `build_engine` makes it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from streamd.core.errors import MissingFileError, ModelError, OutputError, ProviderError
from streamd.models import gpu, libraries, tensorrt
from streamd.models.assignment import AssignmentError
from streamd.models.contract import Graph, InputContract
from streamd.models.creation import NotHereError, Source, quieten, versions
from streamd.models.engines import EngineCache, EngineError, EngineKey, Tell, model_digest
from streamd.models.running import Session
from streamd.models.session import (
    NAMES,
    Provider,
    RuntimeOptions,
    cuda_provider,
    open_cpu,
    open_cuda,
    open_on_gpu,
)

# What the next provider would answer as well, or with a graph that differs only in its input the same one.
_ANYWAY = (libraries.LibraryError, OutputError)
_NOT_HERE = (NotHereError, AssignmentError, EngineError, *_ANYWAY)
# Guards the making of sessions, which is not thread-safe (onnxruntime #27089). It is held while an engine is built
# in this process, for minutes: so that a process that serves has it built in another one.
_CREATION = threading.Lock()

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that is in the cache, verified and tried."""

    folder: Path
    built: bool
    """Whether that was done just now."""
    joined: bool
    """Whether it is that of the model with a uint8 input joined to it."""


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
    _check_readable(model)
    quieten()
    notes: list[str] = []
    with _CREATION:
        for provider in options.providers:
            sources = _sources(model, graph, options, contract, provider, notes)
            session = _first(provider, sources, _OPENERS[provider], options, notes, tell)
            if session is not None:
                return session
            if not options.fallback:
                break
    end = "runtime.providers names no other" if options.fallback else "runtime.fallback is false"
    raise ProviderError(f"{'; '.join(notes)}; {end}, so nothing else is tried")


def awaited(
    model: Path, graph: Graph, options: RuntimeOptions, contract: InputContract | None = None
) -> RuntimeOptions | None:
    """The first provider alone, when all that it lacks is an engine; None when it needs none, has it, or cannot run.

    Looks and builds nothing: loads libraries, asks the GPU, looks the engine up, that of the uint8 input if one is
    to be joined. An engine that turns out to be damaged only when all of it is read counts as there; `open_session`
    then builds it again. contract: as there. Raises MissingFileError. Any thread.
    """
    first = options.providers[0]
    if first != "tensorrt":
        return None
    _check_readable(model)
    try:
        cache, key = _place(next(_sources(model, graph, options, contract, first, [])), options)
        there = cache.seems_to_hold(key)
    except _NOT_HERE:
        return None  # why not is told when the chain is opened
    return None if there else replace(options, providers=(first,), fallback=True)


def behind(options: RuntimeOptions) -> RuntimeOptions | None:
    """The chain without its first provider; None when nothing else may run."""
    rest = options.providers[1:]
    return replace(options, providers=rest) if rest and options.fallback else None


def meanwhile(options: RuntimeOptions) -> RuntimeOptions | None:
    """The chain behind the first provider, for as long as that one is awaited; None when nothing else may run.

    Pictures are prepared for both in one form if that can be: then those under way stay good when it takes over.
    """
    rest = behind(options)
    if rest is None or options.providers[0] not in options.uint8_input:
        return rest
    return replace(rest, uint8_input=rest.uint8_input.union(rest.providers))


def build_engine(
    model: Path,
    graph: Graph,
    options: RuntimeOptions,
    tell: Tell = lambda _: None,
    contract: InputContract | None = None,
) -> Engine:
    """Builds TensorRT's engine unless the cache holds it, and runs the model on it. Blocks for minutes.

    The providers of `options` and `fallback` do not count. contract: as for `open_session`, which then finds the
    engine. Any thread; calls wait for each other.
    Raises ProviderError when TensorRT does not run here, ModelError, MissingFileError.
    """
    _check_readable(model)
    quieten()
    notes: list[str] = []
    options = replace(options, cuda_graph=False)
    with _CREATION:
        sources = _sources(model, graph, options, contract, "tensorrt", notes)
        made = _first("tensorrt", sources, _on_engine, options, notes, tell)
    if made is None:
        raise ProviderError("; ".join(notes))
    for note in notes:
        tell(note)
    session, engine = made
    session.close()
    return engine


def _check_readable(model: Path) -> None:
    if not os.access(model, os.R_OK):
        raise MissingFileError(f"{model}: no such model file, or it may not be read")


def _sources(
    model: Path,
    graph: Graph,
    options: RuntimeOptions,
    contract: InputContract | None,
    provider: Provider,
    notes: list[str],
) -> Iterator[Source]:
    """The model with a uint8 input, where that is wanted and can be, then as it is."""
    if contract is not None and provider in options.uint8_input and graph.input.dtype.kind == "f":
        # It imports onnx, which no session needs otherwise.
        from streamd.models.prologue import PrologueError, join

        try:
            joined = join(model, graph, contract)
            yield Source(model, joined.graph, joined.content, joined.key)
        except PrologueError as error:
            notes.append(f"the model keeps its {graph.input.dtype} input: {error}")
    yield Source(model, graph)


def _first(
    provider: Provider,
    sources: Iterable[Source],
    make: Callable[[Source, RuntimeOptions, list[str], Tell], _Made],
    options: RuntimeOptions,
    notes: list[str],
    tell: Tell,
) -> _Made | None:
    """What is made of the first source that this provider runs; None and a note for each when it runs none.

    Raises ModelError when the model as it is is unusable.
    """
    for source in sources:
        try:
            return make(source, options, notes, tell)
        except ModelError as error:
            if not source.key:
                raise ModelError(f"{source.path}: {error}") from error.__cause__
            notes.append(f"{provider} does not run it with a uint8 input: {error}")
        except _ANYWAY as error:
            notes.append(f"{provider} does not run here: {error}")
            break
        except _NOT_HERE as error:
            form = "it with a uint8 input" if source.key else "here"
            notes.append(f"{provider} does not run {form}: {error}")
    return None


def _place(source: Source, options: RuntimeOptions) -> tuple[EngineCache, EngineKey]:
    """Where the engine of this source belongs, under a key of all that it depends on.

    Loads TensorRT's libraries. Raises NotHereError, LibraryError.
    """
    libraries.load(libraries.TENSORRT)
    graph = source.graph
    try:
        asked = tensorrt.tensorrt_options(
            graph, options.batch_limit, options.precision, options.device, Path(), Path()
        )
    except ValueError as error:
        raise NotHereError(str(error)) from error
    card = gpu.read_gpu(options.device)
    key = EngineKey(
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
    return EngineCache(options.cache_dir), key


def _on_engine(
    source: Source, options: RuntimeOptions, notes: list[str], tell: Tell
) -> tuple[Session, Engine]:
    """A session on the cached engine, which is built first when it is not there."""
    cache, key = _place(source, options)
    timings = cache.timings(key, ("tensorrt", "cuda_runtime", "gpu"))
    name = source.path.name
    built: list[Path] = []
    # An engine is the same for both, and a session that is only tried needs none.
    building = replace(options, cuda_graph=False)

    def on(engines: Path, given: Source, asked: RuntimeOptions, *, writing: bool = False) -> Session:
        chosen = tensorrt.tensorrt_options(
            given.graph, options.batch_limit, options.precision, options.device, engines, timings
        )
        if writing:
            chosen = tensorrt.writing_context(chosen, engines)
        return open_on_gpu(given, asked, notes, tell, [(NAMES["tensorrt"], chosen), cuda_provider(options)])

    def on_context(engines: Path, asked: RuntimeOptions) -> Session:
        # It takes and gives what it was made of, a joined input included.
        context = replace(source, path=engines / tensorrt.CONTEXT, content=None)
        try:
            return on(engines, context, asked)
        except ModelError as error:
            raise NotHereError(str(error)) from error

    def build(engines: Path) -> None:
        tell(f"building the TensorRT engine of {name}; this takes minutes, the next start will not")
        timings.mkdir(exist_ok=True)
        built.append(engines)
        try:
            on(engines, source, building, writing=True).close()
            on_context(engines, building).close()
        except _NOT_HERE as error:
            # Whether the context model or the engine itself is at fault only a build without the one can tell.
            (engines / tensorrt.CONTEXT).unlink(missing_ok=True)
            on(engines, source, building).close()
            tell(f"no context model for {name}, each start will parse the model: {error}")

    with cache.engine(key, build, tell) as engines:
        session = None
        if (engines / tensorrt.CONTEXT).is_file():
            try:
                session = on_context(engines, options)
            except _NOT_HERE as error:
                notes.append(f"the engine's context model does not load, so the model is parsed: {error}")
        session = session or on(engines, source, options)
        if flaw := cache.flaw(key):
            session.notes.append(
                f"the cached engine was not used as it is ({flaw}) and is built again next time"
            )
        return session, Engine(engines, bool(built), joined=bool(source.key))


def _open_tensorrt(source: Source, options: RuntimeOptions, notes: list[str], tell: Tell) -> Session:
    return _on_engine(source, options, notes, tell)[0]


_Opener: TypeAlias = Callable[[Source, RuntimeOptions, list[str], Tell], Session]
_OPENERS: Mapping[Provider, _Opener] = {"tensorrt": _open_tensorrt, "cuda": open_cuda, "cpu": open_cpu}
