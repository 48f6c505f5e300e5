"""`streamd detect`: every frame of files, folders and addresses, offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.cores import usable_cores
from streamd.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; None: not asked for."""

    jsonl: str | None
    csv: str | None
    video: str | None
    timings: bool
    force: bool


def detect(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, globs or URLs.")],
    model: options.ModelName = None,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE", help="Results as JSON lines; - is stdout.")
    ] = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Objects as CSV rows; - is stdout.")] = None,
    video: Annotated[
        str | None,
        typer.Option(metavar="FILE.mp4", help="Pictures with boxes; a folder for several sources."),
    ] = None,
    confidence: Annotated[
        str, typer.Option(metavar="N|CLASS=N,...", help="The lowest score that counts.")
    ] = "0.25",
    iou: Annotated[
        float, typer.Option(min=0, max=1, help="Overlap above which boxes of a class are one.")
    ] = 0.45,
    classes: Annotated[str | None, typer.Option(metavar="A,B", help="Keep only these classes.")] = None,
    head: options.HeadName = "auto",
    input_: options.InputName = "auto",
    size: options.Size = None,
    labels: Annotated[
        str, typer.Option(help="auto, coco, or a text file with a class name a line.")
    ] = "auto",
    provider: options.ProviderName = None,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Only each Nth frame.")] = 1,
    from_: Annotated[
        float | None, typer.Option("--from", min=0, metavar="S", help="Start at S seconds.")
    ] = None,
    to: Annotated[float | None, typer.Option(min=0, metavar="S", help="Stop at S seconds.")] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N frames a source.")
    ] = None,
    timings: Annotated[bool, typer.Option(help="Add clocks and stage times to the JSON lines.")] = False,
    force: Annotated[bool, typer.Option(help="Overwrite existing outputs.")] = False,
    username: Annotated[str | None, typer.Option(help="User of RTSP and HTTP sources.")] = None,
    password_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File with the user's password; else it is asked for.")
    ] = None,
) -> None:
    """Detect objects in every frame of the sources, in order; without outputs a table is printed.

    Example: streamd detect clip.mp4 -m yolox-nano --jsonl clip.jsonl --video clip.boxes.mp4
    """
    if model is None:
        raise UsageError(
            "which model? name an ONNX file or a known model with -m (see `streamd models list`); `streamd demo` "
            "brings one of its own"
        )
    if from_ is not None and to is not None and to <= from_:
        raise UsageError(f"--from {from_:g} --to {to:g}: the end must come after the start")
    thresholds = options.parse_confidence(confidence)
    names = options.parse_names(classes)
    picture_size = options.parse_size(size)
    order = options.providers(provider)

    with Stop() as stop:
        from pathlib import Path

        from streamd.cli.offline import Job, execute
        from streamd.cli.pulling import model_file
        from streamd.models.description import describe
        from streamd.models.selection import rules_for
        from streamd.service.offline import Span
        from streamd.sources import SourceRequest
        from streamd.sources.inputs import expand

        for source in sources:
            if "://" in source:
                options.refuse_credentials(source)
        urls = expand(sources)
        label_source = Path(labels) if labels not in ("auto", "coco") else labels
        file = model_file(model)
        description = describe(file, head=head, input=input_, size=picture_size, labels=label_source)
        rules = rules_for(description.labels, confidence=thresholds, iou=iou, classes=names)
        password = options.read_password(Path(password_file) if password_file else None, username)
        requests = [
            SourceRequest(url=url, username=username, password=password, threads=usable_cores(), every=True)
            for url in urls
        ]
        job = Job(
            description=description,
            rules=rules,
            requests=requests,
            span=Span(every, from_, to, max_frames),
            outputs=Outputs(jsonl, csv, video, timings, force),
            providers=order,
            fallback=provider is None,
        )
        code = execute(job, stop)
    raise typer.Exit(code)
