"""`streamd bench`: what this box can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.cores import usable_cores
from streamd.core.errors import StreamdError, UsageError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from streamd.benchmark.bench import Plan
    from streamd.sources import SourceRequest


def bench(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="A clip, or a camera's URL; else the demo's clip."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="An ONNX file or a known model; else the demo's."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Model and camera of this configuration."),
    ] = None,
    stream: Annotated[str | None, typer.Option("--stream", metavar="ID", help="Which, with -c.")] = None,
    streams: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="Run N cameras; else as many as fit.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, metavar="FPS", help="Frames a second and camera; else all of them."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=3600, metavar="S", help="How long each part is measured.")
    ] = 5.0,
    max_frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N frames a pass.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also against the loop that most people write, taking turns.")
    ] = False,
    pairs: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Turns of --compare.")] = 7,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    head: options.HeadName = "auto",
    input_: options.InputName = "auto",
    size: options.Size = None,
    provider: options.ProviderName = None,
    username: Annotated[
        str | None, typer.Option(help="The camera's user; the password is asked for.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the password, instead of asking.")
    ] = None,
) -> None:
    """Measure the whole path here: how many cameras of a kind this box holds, and which stage is the bound.

    A clip stands for a camera: it is played at its own pace, many times at once. Of a real camera one connection is
    made, or --streams many.

    Example: streamd bench CLIP.mp4 -m MODEL.onnx --compare
    """
    import contextlib

    if config is not None and (source is not None or model is not None):
        raise UsageError("-c brings its own model and cameras; leave out SOURCE and -m, or leave out -c")
    if stream is not None and config is None:
        raise UsageError(f"--stream {stream}: of which configuration? name it with -c FILE")
    asked: dict[str, object] = {"head": head, "input": input_, "size": options.parse_size(size)}
    # Never begun: nothing is written that a signal must not cut, so it may interrupt at any moment.
    with Stop(), contextlib.ExitStack() as stack:
        from dataclasses import replace

        from streamd.benchmark import bench as benchmark
        from streamd.benchmark.report import encode
        from streamd.core.secrets import Redactor
        from streamd.service import logging

        if config is not None:
            plan = _configured(config, stream)
        else:
            request = _request(source, username, password_file, stack)
            plan = _named(request, model, asked, provider, stack)
            if source is None:
                plan = replace(plan, source_name="demo.mp4")
        logging.set_up("warning", "auto", Redactor([plan.request.password] if plan.request.password else []))
        plan = replace(
            plan,
            streams=streams,
            rate=rate,
            seconds=seconds,
            max_frames=max_frames,
            pairs=pairs if compare else None,
        )
        report = benchmark.run(plan, _tell)
    if json:
        print(encode(report).decode())
    else:
        from streamd.cli.bench_tables import show

        show(report)
    found = report.comparison
    if compare and found and not found.objects.agree:
        one, other = found.objects.ours, found.objects.usual
        raise StreamdError(
            f"the comparison is hollow: of {one} and {other} objects the other side has {found.objects.ours_met:.0%} "
            f"and {found.objects.usual_met:.0%}; take a clip with objects that the model knows"
        )


def _tell(line: str) -> None:
    """What goes on, for whoever waits at a terminal."""
    import sys

    if sys.stderr.isatty():
        print(f"streamd: {line}", file=sys.stderr)


def _request(
    source: str | None, username: str | None, password_file: Path | None, stack: ExitStack
) -> SourceRequest:
    """The source of the command line, or the demo's clip for as long as `stack` lasts."""
    from importlib.resources import as_file, files

    from streamd.sources import SourceRequest

    if source is None:
        source = str(stack.enter_context(as_file(files("streamd") / "assets" / "demo.mp4")))
    elif "://" in source:
        options.refuse_credentials(source)
    password = options.read_password(password_file, username)
    return SourceRequest(url=source, username=username, password=password, threads=usable_cores(), every=True)


def _named(
    request: SourceRequest,
    model: str | None,
    asked: dict[str, object],
    provider: str | None,
    stack: ExitStack,
) -> Plan:
    """What the command line names."""
    from importlib.resources import as_file, files

    from streamd.benchmark.bench import Plan
    from streamd.benchmark.cameras import of_request
    from streamd.cli.pulling import model_file
    from streamd.models.description import describe
    from streamd.models.selection import rules_for
    from streamd.service.configured import offline_options

    demo = files("streamd") / "assets" / "demo.onnx"
    path = model_file(model) if model is not None else stack.enter_context(as_file(demo))
    # Of three types in one dictionary: it also goes, as it is, into the configuration of the measured daemon.
    description = describe(path, **asked)  # type: ignore[arg-type]
    runtime = offline_options(options.providers(provider), provider is None)
    return Plan(
        request=request,
        kind=of_request(request, description, runtime, asked),
        description=description,
        options=runtime,
        rules=rules_for(description.labels),
    )


def _configured(path: Path, stream: str | None) -> Plan:
    """What a configuration names."""
    from dataclasses import replace

    from streamd.benchmark.bench import Plan
    from streamd.benchmark.cameras import of_stream
    from streamd.cli.pulling import pulled
    from streamd.service.configured import (
        describe_configured,
        known_names,
        request_of,
        rules_of,
        runtime_options,
    )
    from streamd.service.loading import load

    config = load(path, tables=known_names())
    streams = {found.id: found for found in config.streams}
    if stream is None and len(streams) == 1:
        (stream,) = streams
    if stream not in streams:
        raise UsageError(f"{path}: --stream must be one of {', '.join(streams)}")
    chosen = streams[stream]
    description = describe_configured(config.model, pulled)
    return Plan(
        request=replace(request_of(chosen), threads=usable_cores(), every=True),
        kind=of_stream(config, chosen),
        description=description,
        options=replace(runtime_options(config), cpu_runs=None),
        rules=rules_of(chosen, description.labels),
        source_name=stream,
    )
