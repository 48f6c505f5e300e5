"""A benchmark's report for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from streamd.benchmark.report import Cameras, Comparison, Ideal, Report, Speed
from streamd.cli.console import console


def show(report: Report) -> None:
    """Print it to stdout."""
    screen = console()
    _print_rows(_head(report))
    screen.print(_stages(report.speed))
    _print_rows(_cost(report.speed))
    print()
    screen.print(_trials(report.cameras))
    _print_rows(_answer(report.cameras, report.machine.cores))
    if isinstance(report.comparison, Comparison):
        print()
        _print_rows(_against(report.comparison))


def _print_rows(rows: Iterator[tuple[str, str]]) -> None:
    for name, value in rows:
        print(f"{name:<15} {value}")


def _head(report: Report) -> Iterator[tuple[str, str]]:
    speed, machine = report.speed, report.machine
    named = f"{machine.processor}, " if isinstance(machine.processor, str) else ""
    yield "machine", f"{named}{machine.cores} cores, {machine.memory_mib / 1024:.0f} GiB"
    yield "model", f"{report.model} on {report.provider}"
    yield "source", f"{report.source}, {report.width}x{report.height}"
    yield "whole path", f"{speed.frames_per_s:.1f} frames/s ({speed.frames} frames in {speed.seconds:.2f} s)"


def _stages(speed: Speed) -> Table:
    table = Table(title="milliseconds a frame", title_justify="left")
    table.add_column("stage")
    for column in ("mean", "p50", "p95", "p99", "CPU"):
        table.add_column(column, justify="right")
    for name, stage in speed.stages.items():
        times = (stage.mean_ms, stage.p50_ms, stage.p95_ms, stage.p99_ms)
        cpu = f"{stage.cpu_us / 1000:.3f}" if isinstance(stage.cpu_us, float) else ""
        table.add_row(name, *(f"{value:.2f}" for value in times), cpu)
    return table


def _cost(speed: Speed) -> Iterator[tuple[str, str]]:
    yield (
        "CPU a frame",
        f"{speed.cpu_us / 1000:.3f} ms, of which {speed.overhead_us / 1000:.3f} ms are in no stage",
    )
    if isinstance(speed.ideal, Ideal):
        ideal = speed.ideal
        yield (
            "ideal",
            f"{ideal.frames_per_s:.1f} frames/s if nothing but the stages cost; {ideal.share:.1%} reached",
        )


def _trials(cameras: Cameras) -> Table:
    table = Table(title=f"cameras of {cameras.rate:.4g} frames a second", title_justify="left")
    for column in ("cameras", "results/s", "cores", "MiB", "age p50", "p95", "p99 ms"):
        table.add_column(column, justify="right")
    table.add_column("held")
    for trial in cameras.trials:
        ages = (trial.age_p50_ms, trial.age_p95_ms, trial.age_p99_ms)
        table.add_row(
            str(trial.cameras),
            f"{trial.results / trial.seconds:.1f}",
            f"{trial.cpu:.2f}",
            f"{trial.memory_mib:.0f}",
            *(f"{age:.1f}" for age in ages),
            escape(trial.why) if isinstance(trial.why, str) else "yes",
        )
    return table


def _answer(cameras: Cameras, cores: int) -> Iterator[tuple[str, str]]:
    one_more = ", one more did not" if cameras.confirmed else ""
    yield "this box holds", f"{cameras.held} of these cameras as they were run{one_more}"
    limits = f"{cores} cores are enough for {cameras.by_cpu:.1f}, the model for {cameras.by_worker:.1f}"
    yield "estimate", f"{cameras.estimate}: {limits}"
    yield "bound", f"{cameras.bound} is used up first"
    memory = cameras.memory_per_camera_mib
    more = f", {memory:.1f} MiB each more" if isinstance(memory, float) else ""
    yield "a camera takes", f"{cameras.cpu_per_camera:.3f} cores{more}"


def _against(found: Comparison) -> Iterator[tuple[str, str]]:
    objects = found.objects
    spread = f"median of {found.pairs} pairs, {found.least:.2f} to {found.most:.2f}"
    yield (
        "usual loop",
        f"takes {found.ratio:.2f} times as long ({spread}), {found.cpu_ratio:.2f} times the CPU time",
    )
    rates = f"{found.frames_per_s:.1f}, usual loop {found.usual_frames_per_s:.1f}"
    yield "frames/s", f"{rates}; {found.frames} frames a turn"
    same = "the same objects" if objects.agree else "NOT the same objects"
    met = f"{objects.ours_met:.1%} and {objects.usual_met:.1%}"
    yield "objects", f"{same}: {objects.ours} and {objects.usual}, of which the other side has {met}"
