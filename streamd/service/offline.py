"""Offline runs: every frame of every input, in order, once; one input after another through the whole path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamd.bus import wire
from streamd.core.crew import Crew
from streamd.core.errors import Reason, SourceError
from streamd.core.histograms import StageTimes
from streamd.core.picture import Picture
from streamd.core.timing import NS_PER_S, Deadline, now_ns
from streamd.models.detector import Detector
from streamd.models.selection import Rules
from streamd.pipeline.decoder import Feed, Preparer
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool, unhurried
from streamd.pipeline.worker import Worker
from streamd.service.configured import letterbox
from streamd.service.outputs import Sink
from streamd.sources import Source, SourceRequest, open_source
from streamd.sources.address import encodable, shown

_WITH_PICTURES = 8  # frames that may wait with their pictures, which are large
_POLL_S = 0.1  # how soon a Ctrl-C is seen
_JOIN_S = 4.0  # what is left of the 5 s of a stop when everything was asked to end


@dataclass(frozen=True, slots=True)
class Span:
    """Which frames of an input are asked for. Times are seconds from the input's first frame."""

    every: int = 1
    start_s: float | None = None
    stop_s: float | None = None
    max_frames: int | None = None


class SpanSelection:
    """Applies a `Span` to one input. A frame without pts is placed by its number and the average rate."""

    def __init__(self, span: Span, rate: float | None) -> None:
        self._span = span
        self._interval_s = 1 / rate if rate else 0.0
        self._first_pts: float | None = None
        self._taken = 0
        self._over = False

    def wants(self, number: int, picture: Picture) -> bool:
        span = self._span
        at_s = self._position_s(number, picture.pts)
        if span.stop_s is not None and at_s >= span.stop_s:
            self._over = True
            return False
        if number % span.every or (span.start_s is not None and at_s < span.start_s):
            return False
        self._taken += 1
        self._over = span.max_frames is not None and self._taken >= span.max_frames
        return True

    def over(self) -> bool:
        return self._over

    def _position_s(self, number: int, pts: float | None) -> float:
        if pts is None:
            return number * self._interval_s
        if self._first_pts is None:
            self._first_pts = pts
        return pts - self._first_pts


@dataclass(slots=True)
class Progress:
    """How far the current input is; written by the run, read by whoever shows it."""

    source: str = ""
    index: int = 0
    inputs: int = 0
    frames: int = 0
    expected: int | None = None
    rate: float | None = None
    """Frames a second of media; None when unknown."""
    started_ns: int = 0
    times: StageTimes = field(default_factory=StageTimes)

    def frames_per_s(self) -> float:
        """Frames of this input a second so far."""
        passed_ns = now_ns() - self.started_ns
        return self.frames * NS_PER_S / passed_ns if passed_ns else 0.0


@dataclass(slots=True)
class OfflineRun:
    """Runs inputs through a detector into sinks. `run` blocks until all are done or `stop` is set."""

    detector: Detector
    rules: Rules
    sinks: Sequence[Sink]
    span: Span
    stop: threading.Event
    keep_pictures: bool = False
    on_open: Callable[[Source], None] = lambda source: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_end: Callable[[wire.OfflineEnd], None] = lambda end: None
    progress: Progress = field(default_factory=Progress)
    source_name: str | None = None
    """Stands for the address of the inputs in what is written; None: the address as given."""
    open_source: Callable[[SourceRequest, threading.Event], Source] = open_source
    preparer: Callable[[ModelInput], Preparer] = letterbox

    def run(self, requests: Sequence[SourceRequest]) -> list[wire.OfflineEnd]:
        """One end record an input, in the given order; fewer when stopped. Raises OutputError.

        An input that cannot be read does not stop the others: its record says so.
        """
        self.progress.inputs = len(requests)
        ends = []
        for index, request in enumerate(requests):
            if self.stop.is_set():
                break
            end = self._input(index, request)
            for sink in self.sinks:
                sink.end(end)
            self.on_end(end)
            ends.append(end)
        return ends

    def _input(self, index: int, request: SourceRequest) -> wire.OfflineEnd:
        progress = self.progress
        name = encodable(self.source_name or request.url)
        progress.source, progress.index = name, index
        progress.frames, progress.expected, progress.started_ns = 0, None, now_ns()
        for sink in self.sinks:
            sink.begin(name, index)
        passage = _Passage(self, request)
        failure = passage.run()
        end = wire.OfflineEnd(source=name, input=index, frames=progress.frames, complete=failure is None)
        if failure is not None:
            end.reason, end.detail = failure.reason.value, str(failure)
        return end

    def write(self, result: Result) -> None:
        """Hand one result to every sink and count it."""
        result.stamps.encoded = now_ns()
        for sink in self.sinks:
            sink.result(result)
        self.progress.frames += 1
        self.progress.times.add(result.stamps)
        self.on_progress(self.progress)


class _Passage:
    """One input's way through the path: its threads live as long as `run`."""

    def __init__(self, owner: OfflineRun, request: SourceRequest) -> None:
        self._owner = owner
        self._request = request
        self._rings = Rings()
        self._failure: SourceError | None = None
        detector = owner.detector
        waiting = _waiting(detector, owner.keep_pictures)
        self._worth_waking = waiting // 2
        """Whoever has nothing to do sleeps until there is so much work: waking costs more than a small frame."""
        self._outbox: Outbox[None] = Outbox(waiting)
        self._lane = Lane(
            stream=request.url,
            # In the ring, being written, and in the model.
            slots=SlotPool(ModelInput(detector.contract, detector.input), waiting + 1 + detector.at_once),
            rules=owner.rules,
            max_age_ns=None,
            live=False,
            keeping=Keeping(wanted=owner.keep_pictures),
        )
        self._ring = self._rings.add(self._lane, waiting)

    def run(self) -> SourceError | None:
        """Why the input is not complete; None when it is."""
        owner = self._owner
        # Where pictures run side by side each of them is work enough, and a core that waits for more is lost.
        fill = self._worth_waking if owner.detector.runs == 1 else 1
        worker = Worker(owner.detector, self._rings, self._outbox, fill=fill)
        stopped = False
        with Crew() as crew:
            crew.start("decode", lambda: self._decode(crew.stop))
            for number in range(worker.threads):
                crew.start(f"infer/{number}" if number else "infer", lambda: self._infer(worker))
            try:
                while (items := self._outbox.take(_POLL_S, self._worth_waking)) is not None:
                    for result in items:
                        if isinstance(result, Result):
                            owner.write(result)
                    if crew.stop.is_set() or owner.stop.is_set():
                        stopped = True
                        break
            finally:
                crew.ask_stop()
                self._rings.close(drain=False)
                self._outbox.close()
                crew.join("", Deadline(_JOIN_S))
            if crew.failure is not None:
                raise crew.failure
        if stopped and self._failure is None:
            return SourceError(Reason.OPERATOR, f"{shown(self._request.url)}: stopped before the end")
        return self._failure

    def _infer(self, worker: Worker) -> None:
        last = True
        try:
            last = worker.run()
        finally:
            if last:
                self._outbox.close()

    def _decode(self, stop: threading.Event) -> None:
        owner = self._owner
        try:
            with owner.open_source(self._request, stop) as source:
                owner.progress.rate = source.rate
                owner.progress.expected = self._expected(source)
                owner.on_open(source)
                selection = SpanSelection(owner.span, source.rate)
                feed = Feed(self._lane, self._ring, owner.preparer, selection, source.clock)
                for picture in source.pictures():
                    feed.accept(picture, stop)
                    del picture  # libav decodes the next one where it lay, if nothing is predicted from it
                    if selection.over() or stop.is_set():
                        break
        except SourceError as error:
            if not stop.is_set():
                self._failure = error
        finally:
            self._rings.close(drain=not stop.is_set())

    def _expected(self, source: Source) -> int | None:
        """How many results this input will give, as far as the container says."""
        span = self._owner.span
        frames = source.frames
        if frames is not None and source.rate:
            begin = (span.start_s or 0) * source.rate
            end = min(frames, span.stop_s * source.rate) if span.stop_s is not None else frames
            frames = max(0, round((end - begin) / span.every))
        if span.max_frames is not None:
            return min(span.max_frames, frames) if frames is not None else span.max_frames
        return frames


def _waiting(detector: Detector, with_pictures: bool) -> int:
    """How many frames may wait for the worker, and results for the sinks."""
    return max(_WITH_PICTURES if with_pictures else unhurried(detector.input), detector.limit)


def complete(ends: Sequence[wire.OfflineEnd], inputs: int) -> bool:
    """Whether every input was read to its end."""
    return len(ends) == inputs and all(end.complete for end in ends)
