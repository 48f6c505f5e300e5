"""What `detect` and `demo` share: the run with its outputs, progress, signals and closing table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from streamd.cli import complain
from streamd.cli.console import console
from streamd.cli.stopping import Stop
from streamd.core.errors import UsageError
from streamd.core.histograms import StageTimes
from streamd.core.secrets import Redactor
from streamd.core.timing import Stage
from streamd.models.description import Description
from streamd.models.selection import Rules
from streamd.models.session import Provider
from streamd.service import logging, offline
from streamd.service.configured import offline_options
from streamd.service.line_file import LineFile
from streamd.service.movie import Movies
from streamd.service.outputs import CsvRows, JsonLines, Sink, refuse_overlaps
from streamd.service.start import open_detector, tell_of
from streamd.service.tally import Tally
from streamd.sources import SourceRequest
from streamd.sources.address import path_of, scheme_of

if TYPE_CHECKING:
    from rich.console import Console

    from streamd.bus import wire
    from streamd.cli.detect import Outputs


@dataclass(frozen=True, slots=True)
class Job:
    """An offline run as asked for."""

    description: Description
    rules: Rules
    requests: Sequence[SourceRequest]
    span: offline.Span
    outputs: Outputs
    providers: tuple[Provider, ...]
    fallback: bool
    table: bool = False
    """Print the table also when there are outputs."""
    source_name: str | None = None
    """Stands for the sources' address in what is written and shown."""


def execute(job: Job, stop: Stop) -> int:
    """Run the job; the exit code: 0, 1 for an input that is not complete, 130 and 143 when stopped."""
    password = next((request.password for request in job.requests if request.password), None)
    logging.set_up("warning", "auto", Redactor([password] if password else []))
    tally = Tally()
    errors = console(stderr=True)
    with ExitStack() as stack:
        sinks, movies = _sinks(job, stack)
        if not job.description.input_known:
            errors.print(
                f"streamd: {escape(job.description.name)}: {escape(job.description.input_reason)}",
                soft_wrap=True,
            )
        tell_of(job.description)
        detector, _warm_ms = stack.enter_context(
            open_detector(job.description, offline_options(job.providers, job.fallback))
        )
        stop.begin()
        run = offline.OfflineRun(
            detector,
            job.rules,
            [*sinks, tally],
            job.span,
            stop.event,
            keep_pictures=movies is not None,
            source_name=job.source_name,
        )
        # Progress is for a terminal; elsewhere stderr stays empty while all is well.
        if sys.stderr.isatty():
            run.on_progress = _show_in(stack.enter_context(_bar(errors)))
        run.on_end = _report
        if movies is not None:
            run.on_open = movies.on_open
        ends = run.run(job.requests)
    if job.table or not sinks:
        print_tables(tally, run.progress.times, job)
    if stop.signal is not None:
        return 128 + stop.signal
    return 0 if offline.complete(ends, len(job.requests)) else 1


def _sinks(job: Job, stack: ExitStack) -> tuple[list[Sink], Movies | None]:
    outputs = job.outputs
    if outputs.jsonl == "-" and outputs.csv == "-":
        raise UsageError("--jsonl - and --csv - both want stdout; give one of them a file")
    movies = None if outputs.video is None else _movies(outputs.video, job)
    texts = [Path(name) for name in (outputs.jsonl, outputs.csv) if name not in (None, "-")]
    refuse_overlaps([*texts, *(movies.paths if movies is not None else [])], _read_by(job))
    if movies is not None:
        stack.callback(movies.close)
        movies.check()
    sinks: list[Sink] = []
    if outputs.jsonl is not None:
        file = stack.enter_context(LineFile(outputs.jsonl, force=outputs.force))
        sinks.append(JsonLines(file, timings=outputs.timings))
    if outputs.csv is not None:
        sinks.append(CsvRows(stack.enter_context(LineFile(outputs.csv, force=outputs.force))))
    if movies is not None:
        sinks.append(movies)
    return sinks, movies


def _movies(target: str, job: Job) -> Movies:
    if target == "-":
        raise UsageError("--video -: a movie goes to a file, not to stdout; name one")
    folder = target.endswith("/") or Path(target).is_dir()
    if len(job.requests) > 1 and not folder:
        raise UsageError(f"--video {target}: with several sources name a folder")
    sources = [job.source_name or request.url for request in job.requests]
    return Movies(Path(target), sources, force=job.outputs.force, folder=folder)


def _read_by(job: Job) -> list[Path]:
    """The files that a run reads."""
    inputs = (request.url for request in job.requests if scheme_of(request.url) == "file")
    return [job.description.path, *(Path(path_of(url)) for url in inputs)]


def _report(end: wire.OfflineEnd) -> None:
    if not end.complete and end.reason != "operator" and isinstance(end.detail, str):
        complain(end.detail)


def _show_in(bar: Progress) -> Callable[[offline.Progress], None]:
    """What shows how far a run is."""
    task = bar.add_task("", total=None, rate="")

    def show(progress: offline.Progress) -> None:
        place = f"[{progress.index + 1}/{progress.inputs}] " if progress.inputs > 1 else ""
        bar.update(
            task,
            description=escape(place + Path(progress.source).name),
            completed=progress.frames,
            total=progress.expected,
            rate=f"{progress.frames_per_s():.0f}/s",
        )

    return show


def _bar(screen: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
    )


def print_tables(tally: Tally, times: StageTimes, job: Job) -> None:
    """What was seen in each input; with `job.table` also what each stage cost."""
    screen = console()
    for seen in tally.inputs:
        table = Table(title=escape(f"{seen.source}: {seen.frames} frames"), title_justify="left")
        table.add_column("class")
        for column in ("frames", "objects", "most at once", "best score"):
            table.add_column(column, justify="right")
        for label, row in sorted(seen.classes.items(), key=lambda item: -item[1].objects):
            table.add_row(escape(label), str(row.frames), str(row.objects), str(row.most), f"{row.best:.2f}")
        if not seen.classes:
            table.add_row("nothing seen", "", "", "", "")
        screen.print(table)
    if job.table:
        screen.print(_stage_table(times))


def _stage_table(times: StageTimes) -> Table:
    table = Table(title="milliseconds a frame", title_justify="left")
    table.add_column("stage")
    for column in ("mean", "p50", "p95"):
        table.add_column(column, justify="right")
    for stage in (Stage.DECODE, Stage.PREPROCESS, Stage.INFER, Stage.POSTPROCESS):
        values = (times.mean_ms(stage), times.quantile_ms(stage, 0.5), times.quantile_ms(stage, 0.95))
        table.add_row(str(stage), *("" if value is None else f"{value:.2f}" for value in values))
    return table
