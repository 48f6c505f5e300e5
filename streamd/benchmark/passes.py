"""One source through the whole path, offline: how fast it goes, and what each frame costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamd.benchmark.meter import STAGES, Meter
from streamd.bus import wire
from streamd.bus.messages import offline_result
from streamd.core.errors import StreamdError
from streamd.core.histograms import StageTimes
from streamd.core.timing import NS_PER_S, Stage
from streamd.models.contract import Detections
from streamd.models.detector import Detector
from streamd.models.selection import Rules
from streamd.pipeline.outbox import Result
from streamd.service.offline import OfflineRun, Span
from streamd.sources import Source, SourceRequest
from streamd.sources.address import scheme_of, shown

_WARM_FRAMES = 25


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a source through a metered detector."""

    request: SourceRequest
    detector: Detector
    rules: Rules
    meter: Meter
    source_name: str | None = None
    """Stands for the source's address in what is written and shown."""

    @property
    def name(self) -> str:
        """The source, for people."""
        return self.source_name or shown(self.request.url)


@dataclass(slots=True)
class Cost:
    """What so many frames took. CPU times are nanoseconds over all threads of the process."""

    frames: int = 0
    seconds: float = 0.0
    cpu_ns: int = 0
    stages_ns: Mapping[Stage, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
    times: StageTimes = field(default_factory=StageTimes)

    @property
    def frames_per_s(self) -> float:
        return self.frames / self.seconds

    @property
    def overhead_ns(self) -> int:
        """What is in none of the four stages."""
        return self.cpu_ns - sum(self.stages_ns.values())

    def cpu_s_per_frame(self, stage: Stage | None = None) -> float:
        """CPU seconds a frame: of a stage, or of the process."""
        return (self.cpu_ns if stage is None else self.stages_ns[stage]) / self.frames / NS_PER_S


@dataclass(frozen=True, slots=True)
class Seen:
    """What the source is like."""

    width: int
    height: int
    rate: float
    """Frames a second that it gives."""
    stated: bool
    """Whether that is what a file or a `test:` address says; else it was measured, over few frames."""
    live: bool
    duration_s: float | None
    """Of a file; None when it does not state one."""


class Writing:
    """A sink that makes each result's line, as `--jsonl` does. `keep`: the detections stay, in `kept`."""

    def __init__(self, keep: bool = False) -> None:
        self.size: tuple[int, int] | None = None
        self.kept: list[Detections] = []
        self._keep = keep
        self._source, self._index = "", 0
        self._moments: list[tuple[float | None, int]] = []  # media seconds, and when received (monotonic ns)

    def begin(self, source: str, index: int) -> None:
        self._source, self._index = source, index

    def result(self, result: Result) -> None:
        wire.encode(offline_result(result, self._source, self._index, timings=True))
        if self.size is None:
            self.size = (result.frame.width, result.frame.height)
        self._moments.append((result.frame.pts, result.stamps.received))
        if self._keep:
            self.kept.append(result.detections)

    def rate(self, *, arriving: bool) -> float | None:
        """Frames a second, by when they came or by their media time; None when that cannot be told."""
        if arriving:
            times = [received / NS_PER_S for _, received in self._moments]
        else:
            times = [pts for pts, _ in self._moments if pts is not None]
        passed = times[-1] - times[0] if len(times) > 1 else 0.0
        return (len(times) - 1) / passed if passed > 0 else None

    def end(self, end: wire.OfflineEnd) -> None:
        wire.encode(end)

    def close(self) -> None:
        pass


def look(subject: Subject) -> Seen:
    """Run the first frames, unmeasured: what the source is like, with all code and caches warm after it.

    Raises StreamdError when there is none, it cannot be read, or it has no rate.
    """
    found: list[Source] = []
    sink = Writing()
    run = _run(subject, Span(max_frames=_WARM_FRAMES), [sink])
    run.on_open = found.append
    _through(run, subject)
    (source,) = found
    if sink.size is None:
        raise StreamdError(f"{subject.name}: no picture came, so there is nothing to measure")
    # A camera's announcement is a hint, never to be relied on; what a file states is what it was made with.
    camera = source.live and scheme_of(subject.request.url) != "test"
    stated = None if camera else source.rate
    rate = stated or sink.rate(arriving=source.live)
    if rate is None:
        raise StreamdError(
            f"{subject.name}: its pictures carry no time, so it cannot stand for a camera; put it into an MP4"
        )
    duration_s = None if source.live else source.duration_s
    return Seen(*sink.size, rate, bool(stated), source.live, duration_s)


def measure(
    subject: Subject, span: Span, seconds: float, sinks: Sequence[Writing], *, once: bool = False
) -> Cost:
    """Pass after pass until `seconds` are over; `once`: a single one. Raises StreamdError.

    A pass begins with opening the source and ends when its threads are joined, all of which counts.
    """
    run = _run(subject, span, sinks)
    cost = Cost(times=run.progress.times)
    before = subject.meter.reading()
    while cost.seconds < seconds or not cost.frames:
        started, started_cpu = time.monotonic(), time.process_time_ns()
        _through(run, subject)
        cost.seconds += time.monotonic() - started
        cost.cpu_ns += time.process_time_ns() - started_cpu
        cost.frames += run.progress.frames
        if once:
            break
    after = subject.meter.reading()
    cost.stages_ns = {stage: after[stage] - before[stage] for stage in STAGES}
    if not cost.frames:
        raise StreamdError(f"{subject.name}: no picture came, so there is nothing to measure")
    return cost


def _run(subject: Subject, span: Span, sinks: Sequence[Writing]) -> OfflineRun:
    return OfflineRun(
        subject.detector,
        subject.rules,
        sinks,
        span,
        threading.Event(),
        source_name=subject.source_name,
        open_source=subject.meter.open_source,
        preparer=subject.meter.preparer,
    )


def _through(run: OfflineRun, subject: Subject) -> None:
    (end,) = run.run([subject.request])
    if not end.complete:
        raise StreamdError(end.detail if isinstance(end.detail, str) else f"{subject.name}: cannot be read")
