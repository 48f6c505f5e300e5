"""`streamd build`: the TensorRT engine of a model, ahead of time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from streamd.models.chain import Engine
    from streamd.models.description import Description
    from streamd.models.engine_process import EngineProcess
    from streamd.models.session import RuntimeOptions

_TOLD_EVERY_S = 5


def build(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="A configuration: the engine for `streamd run`."),
    ] = None,
    model: options.ModelName = None,
    size: options.Size = None,
) -> None:
    """Build the TensorRT engine of a model and keep it, so that no start has to wait for it.

    With -c the engine that `streamd run -c` looks for, with -m the one for `streamd detect -m` (give it the same
    --size). Takes minutes. Run it as the user that will run streamd, with the same CACHE_DIRECTORY, if any.

    Example: streamd build -c /etc/streamd/streamd.yaml
    """
    if (config is None) == (model is None):
        raise UsageError("name a configuration with -c, or a model with -m")
    if config is not None and size is not None:
        raise UsageError("--size goes with -m; with -c the configuration says it (model.size)")
    picture_size = options.parse_size(size)
    with Stop() as stop:
        if config is not None:
            description, runtime = _of_configuration(config)
        else:
            description, runtime = _of_model(model or "", picture_size)
        if "tensorrt" not in runtime.providers:
            print(f"nothing to build: {', '.join(runtime.providers)} needs no engine")
            return
        from streamd.models.engine_process import EngineProcess

        process = EngineProcess(description.path, description.graph, runtime, description.contract)
        try:
            engine, took_s = _made(process, description.name)
        finally:
            process.kill()
        stop.begin()
    what = f"built in {took_s:.0f} s" if engine.built else "was there already, and runs"
    print(f"{description.name}: the engine {what}: {engine.folder}")


def _of_configuration(config: Path) -> tuple[Description, RuntimeOptions]:
    from streamd.cli.pulling import pulled
    from streamd.service import loading
    from streamd.service.configured import describe_configured, known_names, runtime_options

    settings = loading.load(config, tables=known_names())
    return describe_configured(settings.model, pulled), runtime_options(settings)


def _of_model(model: str, size: tuple[int, int] | None) -> tuple[Description, RuntimeOptions]:
    from streamd.cli.pulling import model_file
    from streamd.models.description import describe
    from streamd.service.configured import offline_options

    return describe(model_file(model), size=size), offline_options(("tensorrt", "cuda", "cpu"), True)


def _made(process: EngineProcess, name: str) -> tuple[Engine, float]:
    """The engine, and the seconds that it took. The main thread only waits, so that a signal reaches it."""
    from streamd.core.crew import Crew
    from streamd.core.timing import NS_PER_S, now_ns
    from streamd.models.engines import EngineError

    made: list[Engine] = []
    on_terminal = sys.stderr.isatty()
    started_ns = now_ns()
    told = 0

    def work() -> None:
        made.append(process.run(lambda text: print(f"{name}: {text}", file=sys.stderr)))

    with Crew() as crew:
        crew.start("build", work)
        while crew.running("build"):
            crew.wait(1)
            passed = (now_ns() - started_ns) // NS_PER_S // _TOLD_EVERY_S
            if on_terminal and passed > told and crew.running("build"):
                told = passed
                print(f"{name}: building for {passed * _TOLD_EVERY_S} s", file=sys.stderr)
        if isinstance(crew.failure, EngineError):
            raise ProviderError(str(crew.failure)) from crew.failure
        if crew.failure is not None:
            raise crew.failure
    return made[0], (now_ns() - started_ns) / NS_PER_S
