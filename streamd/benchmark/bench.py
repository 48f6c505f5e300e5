"""The order of a benchmark: one clip, then cameras, then the comparison; and what comes of it as a report."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from msgspec import UNSET, UnsetType

from streamd import __version__
from streamd.benchmark import capacity, proc
from streamd.benchmark.cameras import CameraKind
from streamd.benchmark.comparison import compare
from streamd.benchmark.meter import STAGES, Meter
from streamd.benchmark.passes import Cost, Seen, Subject, Writing, look, measure
from streamd.benchmark.report import Cameras, Comparison, Ideal, Machine, Report, Speed, StageReport, Trial
from streamd.benchmark.trial import Asked, run_trial
from streamd.benchmark.usual import UsualLoop
from streamd.core.cores import usable_cores
from streamd.core.errors import UsageError
from streamd.core.timing import NS_PER_MS, NS_PER_S, Stage
from streamd.models.assignment import CPU
from streamd.models.description import Description
from streamd.models.selection import Rules
from streamd.models.session import RuntimeOptions
from streamd.service.offline import Span
from streamd.service.start import open_detector, tell_of
from streamd.sources import SourceRequest
from streamd.sources.source import Kind

_TRIES = 5
"""Numbers of cameras that are run at most, besides the first alone."""
_US_PER_S = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.

    kind: what a daemon's cameras are like. streams: run just so many; None: search. rate: results a second and
    camera; None: what the source gives. seconds: how long each part measures. max_frames: of a pass; None: so many as
    fit into `seconds`. pairs: of the comparison; None: none is made.
    """

    request: SourceRequest
    kind: CameraKind
    description: Description
    options: RuntimeOptions
    rules: Rules
    source_name: str | None = None
    streams: int | None = None
    rate: float | None = None
    seconds: float = 5.0
    max_frames: int | None = None
    pairs: int | None = None


@dataclass(frozen=True, slots=True)
class _Offline:
    """What the source came to in this process."""

    name: str
    seen: Seen
    cost: Cost
    provider: str
    at_once: int
    comparison: Comparison | None


def run(plan: Plan, tell: Callable[[str], None]) -> Report:
    """Everything, one after another; minutes. `tell` is given a line for people before each part.

    Raises UsageError for what cannot be asked together, and whatever keeps the path from running.
    """
    proc.require()
    if plan.pairs is not None and plan.kind.kind is not Kind.FILE:
        raise UsageError("--compare reads its clip again and again; name a file")
    # All sessions in this process are gone after it: the cameras' daemons have the machine to themselves.
    offline = _offline(plan, tell)
    seen = offline.seen
    rate = plan.rate or seen.rate
    estimate = capacity.estimate(
        offline.cost, capacity.Demand(rate, seen.rate, usable_cores()), offline.at_once
    )
    return Report(
        version=__version__,
        machine=_machine(),
        source=offline.name,
        width=seen.width,
        height=seen.height,
        model=plan.description.name,
        provider=offline.provider,
        speed=_speed(offline),
        cameras=_cameras(plan, seen, estimate, tell),
        comparison=UNSET if offline.comparison is None else offline.comparison,
    )


def _offline(plan: Plan, tell: Callable[[str], None]) -> _Offline:
    tell_of(plan.description)
    meter = Meter()
    before = proc.foreign_threads()
    with open_detector(plan.description, plan.options, make=meter.detector) as (detector, _):
        meter.session_is(proc.foreign_threads() - before)
        usual = None
        if plan.pairs is not None:
            # Before anything is measured: what it cannot do is said at once.
            usual = UsualLoop(plan.description, plan.rules, detector.provider)
        subject = Subject(plan.request, detector, plan.rules, meter, plan.source_name)
        tell(f"looking at {subject.name}")
        seen = look(subject)
        _refuse_more(plan.rate, seen)
        a_second = seen.rate if seen.live else _first_guess(subject)
        span = Span(max_frames=plan.max_frames or math.ceil(a_second * plan.seconds))
        tell(f"{subject.name} through the whole path, {plan.seconds:g} s")
        sink = Writing()
        cost = measure(subject, span, plan.seconds, [sink], once=seen.live)
        if not seen.stated and seen.live:
            # Longer than the first look, and without the burst that some cameras begin with.
            seen = replace(seen, rate=sink.rate(arriving=True) or seen.rate)
        comparison = None
        if usual is not None and plan.pairs is not None:
            comparison = compare(subject, Span(max_frames=plan.max_frames), usual, plan.pairs, tell)
        return _Offline(subject.name, seen, cost, detector.provider, detector.at_once, comparison)


def _refuse_more(rate: float | None, seen: Seen) -> None:
    """Raises UsageError for a rate that the source does not have."""
    if rate is not None and rate > seen.rate * (1.001 if seen.stated else 1.1):
        raise UsageError(
            f"--rate {rate:g}: the source gives {seen.rate:.4g} frames a second; ask for no more"
        )


def _first_guess(subject: Subject) -> float:
    """Frames a second, roughly, now that all is warm: how long a pass over a long clip may be."""
    return measure(subject, Span(max_frames=10), 0, [Writing()], once=True).frames_per_s


def _speed(offline: _Offline) -> Speed:
    cost = offline.cost
    ideal = usable_cores() / sum(cost.cpu_s_per_frame(stage) for stage in STAGES)
    if offline.provider != CPU:
        infer_s = (cost.times.mean_ms(Stage.INFER) or math.inf) * NS_PER_MS / NS_PER_S
        ideal = min(ideal, offline.at_once / infer_s)
    share = cost.frames_per_s / ideal
    return Speed(
        frames=cost.frames,
        seconds=round(cost.seconds, 6),
        frames_per_s=round(cost.frames_per_s, 3),
        stages={stage.value: _stage(cost, stage) for stage in Stage},
        cpu_us=round(cost.cpu_s_per_frame() * _US_PER_S, 2),
        overhead_us=round(cost.overhead_ns / cost.frames / 1000, 2),
        # Of what comes at its own pace nothing can be said.
        ideal=UNSET if offline.seen.live else Ideal(frames_per_s=round(ideal, 3), share=round(share, 4)),
    )


def _stage(cost: Cost, stage: Stage) -> StageReport:
    p50, p95, p99 = (cost.times.quantile_ms(stage, share) or 0.0 for share in (0.5, 0.95, 0.99))
    return StageReport(
        mean_ms=round(cost.times.mean_ms(stage) or 0.0, 4),
        p50_ms=round(p50, 4),
        p95_ms=round(p95, 4),
        p99_ms=round(p99, 4),
        cpu_us=round(cost.cpu_s_per_frame(stage) * _US_PER_S, 2) if stage in STAGES else UNSET,
    )


def _cameras(plan: Plan, seen: Seen, estimate: capacity.Estimate, tell: Callable[[str], None]) -> Cameras:
    max_fps = plan.rate if plan.rate is not None and plan.rate < seen.rate * 0.999 else None
    asked = Asked(max_fps or seen.rate, plan.seconds, max_fps, seen.duration_s)
    trials: list[Trial] = []

    def holds(cameras: int) -> float:
        tell(f"{cameras} camera{'s' * (cameras > 1)} for {plan.seconds:g} s")
        trial = run_trial(plan.kind, cameras, asked)
        trials.append(trial)
        return 1.0 if trial.held else min(trial.results / trial.expected, 0.999)

    alone = holds(1)
    if plan.streams is not None:
        found = capacity.Held(1 if alone >= 1 else 0, False)
        if plan.streams > 1 and holds(plan.streams) >= 1:
            found = capacity.Held(plan.streams, False)
    elif alone < 1:
        found = capacity.Held(0, True)
    elif plan.kind.multiplies:
        found = capacity.search(max(2, estimate.cameras), _TRIES, holds, held=1)
    else:
        found = capacity.Held(1, False)
    # Of one that did not hold it would be too little: cameras went unserved.
    most = max((trial for trial in trials if trial.held), key=lambda trial: trial.cameras, default=trials[0])
    return Cameras(
        rate=round(asked.rate, 3),
        by_cpu=round(estimate.by_cpu, 2),
        by_worker=round(estimate.by_worker, 2),
        estimate=estimate.cameras,
        bound=estimate.bound,
        held=found.cameras,
        confirmed=found.confirmed,
        trials=trials,
        cpu_per_camera=round(most.cpu / most.cameras, 4),
        memory_per_camera_mib=_more_memory(trials),
    )


def _more_memory(trials: list[Trial]) -> float | UnsetType:
    """What one more camera takes, MiB: from the first, alone, to the most that were run."""
    first, most = trials[0], max(trials, key=lambda trial: trial.cameras)
    more = most.cameras - first.cameras
    return round((most.memory_mib - first.memory_mib) / more, 2) if more else UNSET


def _machine() -> Machine:
    found = proc.processor()
    return Machine(
        cores=usable_cores(),
        memory_mib=proc.memory_mib(),
        python=platform.python_version(),
        onnxruntime=_onnxruntime(),
        processor=UNSET if found is None else found,
    )


def _onnxruntime() -> str:
    """Of the wheel that is here: two of them bring the module."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
