"""One model makes way for another, or for itself on a better provider: made beside it, exchanged between two batches.

    begin ──► made in the thread `build` ──► taken over by the worker ──► settled
                └──it failed, or is not wanted any more──────────────────────►┘

A step is taken each time the main thread turns; nothing here blocks it. What serves goes on until the worker has
taken the other one, and for ever if that fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from loguru import logger

from streamd.bus import wire
from streamd.core.crew import Crew
from streamd.core.errors import ModelError, ProviderError, StreamdError
from streamd.models.chain import awaited, behind
from streamd.models.description import Description, is_current
from streamd.models.detector import Detector
from streamd.models.engine_process import EngineProcess
from streamd.models.engines import EngineError
from streamd.models.session import NAMES, RuntimeOptions
from streamd.service.fleet import RunningModel
from streamd.service.start import open_detector

TellDaemon: TypeAlias = Callable[[wire.DaemonEventName, str | None], None]
"""Publishes an event of the daemon."""


class AbandonedError(StreamdError):
    """A model was not wanted any more before it was ready."""


class Building:
    """A model that is made ready to serve, and what came of it. `run` is the body of the thread `build`."""

    def __init__(
        self,
        describe: Callable[[threading.Event], Description],
        options: RuntimeOptions,
        number_of: Callable[[Detector], int],
    ) -> None:
        """Both are called in that thread. number_of: the model's number (`RunningModel.number`).

        describe: given what is set when nobody wants the model any more.
        """
        self._describe = describe
        # While a graph is captured no decoder may take GPU memory, and now they run.
        self._options = replace(options, cuda_graph=False)
        self._graphs_wanted = options.cuda_graph
        self._number_of = number_of
        self._lock = threading.Lock()  # guards `_engine`, and that an abandoned one is ended
        self._engine: EngineProcess | None = None
        self._abandoned = threading.Event()
        self.model: RunningModel | None = None
        self.fault: StreamdError | None = None
        self.ended = threading.Event()
        self._stack = ExitStack()

    def run(self) -> None:
        """Blocks for as long as an engine is built, in another process; then while the model is loaded from it."""
        try:
            description = self._describe(self._abandoned)
            options = self._with_engine(description)
            detector, warm_ms = self._stack.enter_context(open_detector(description, options))
            if not is_current(description):
                # It may have been read before as well as after the change.
                raise ModelError(f"{description.path}: the file was changed meanwhile; reload once more")
            if self._graphs_wanted and detector.provider != NAMES["cpu"]:
                logger.info("{}: no CUDA graphs before the next start: cameras are served now", detector.name)
            self.model = RunningModel(detector, warm_ms, self._number_of(detector))
        except StreamdError as error:
            self.fault = error
        finally:
            self.ended.set()

    @property
    def abandoned(self) -> bool:
        """Whether nobody wants it any more."""
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """End soon: an engine's build at once, fetching at the next bytes, the loading of a model when it is done.

        Any thread; never blocks.
        """
        with self._lock:
            self._abandoned.set()
            if self._engine is not None:
                self._engine.kill()

    def close(self) -> None:
        """Free what was made: nobody runs it."""
        self._stack.close()

    def _with_engine(self, description: Description) -> RuntimeOptions:
        """What can be loaded within seconds. Raises ProviderError."""
        model, graph, contract = description.path, description.graph, description.contract
        wanted = awaited(model, graph, self._options, contract)
        if wanted is None:
            return self._options
        process = EngineProcess(model, graph, wanted, contract)
        with self._lock:
            self._engine = process
            if self.abandoned:
                process.kill()
        try:
            engine = process.run(lambda text: logger.info("{}", text))
        except EngineError as error:
            rest = behind(self._options)
            if rest is None or self.abandoned:
                raise ProviderError(f"no engine for {description.name}: {error}") from error
            logger.warning("{}: {}", description.name, error)
            return rest
        if not engine.joined:
            # What that process has tried in vain would be tried here once more, for minutes.
            return replace(self._options, uint8_input=self._options.uint8_input - {"tensorrt"})
        return self._options


@dataclass(slots=True)
class _Step:
    building: Building
    take_over: Callable[[RunningModel, Callable[[], None]], None]
    settled: Callable[[StreamdError | None], None]
    swapped: threading.Event = field(default_factory=threading.Event)


class Succession:
    """The model that runs, and the one that is to take its place. For the main thread, but `model`."""

    def __init__(self, model: RunningModel) -> None:
        self.model = model
        """The model that runs; any thread may read it."""
        self._held: Building | None = None  # what holds it; the first one is the caller's
        self._now: _Step | None = None
        self._next: _Step | None = None
        self._swapping = False

    @property
    def under_way(self) -> bool:
        """Whether another model is being made, or waits to be."""
        return self._now is not None or self._next is not None

    @property
    def swapping(self) -> bool:
        """Whether the worker is about to take another model: streams must not be added or changed now."""
        return self._swapping

    def begin(
        self,
        building: Building,
        take_over: Callable[[RunningModel, Callable[[], None]], None],
        settled: Callable[[StreamdError | None], None],
    ) -> None:
        """Have this model made. What is being made is abandoned, unless it is about to take over.

        take_over: called when it is made, to have the worker run it, and to call what it is given when that is done;
        it may refuse with a StreamdError. settled: called at last, with what was wrong (AbandonedError too) or None.
        """
        if self._now is not None and not self._swapping:
            self._now.building.abandon()
        self._next = _Step(building, take_over, settled)

    def turn(self, crew: Crew, tell: TellDaemon) -> None:
        """Take the steps that can be taken now."""
        step = self._now
        if step is None:
            if self._next is not None:
                self._now, self._next = self._next, None
                crew.start("build", self._now.building.run)
        elif self._swapping:
            if step.swapped.is_set():
                self._taken_over(step, tell)
        elif not crew.running("build"):
            self._exchange(step, crew, tell)

    def abandon(self) -> None:
        """The daemon ends: so does what is being made."""
        self._next = None
        if self._now is not None:
            self._now.building.abandon()

    def close(self) -> None:
        """Free all that was made here. The worker has ended."""
        for building in (self._held, None if self._now is None else self._now.building):
            if building is not None and building.ended.is_set():
                building.close()

    def _exchange(self, step: _Step, crew: Crew, tell: TellDaemon) -> None:
        building = step.building

        def moved() -> None:
            step.swapped.set()
            crew.nudge()

        try:
            if building.abandoned:
                raise AbandonedError("another model was asked for")
            if building.fault is not None:
                raise building.fault
            assert building.model is not None
            step.take_over(building.model, moved)
        except StreamdError as error:
            building.close()
            self._now = None
            if not building.abandoned:
                tell("model_failed", str(error))
            step.settled(error)
            return
        self._swapping = True

    def _taken_over(self, step: _Step, tell: TellDaemon) -> None:
        assert step.building.model is not None
        before = self.model.detector
        self.model = step.building.model
        if self._held is None:
            before.close()
        else:
            self._held.close()
        self._held, self._now, self._swapping = step.building, None, False
        after = self.model.detector
        tell("model_ready", f"{after.name} on {after.provider}")
        if after.provider != before.provider:
            tell("provider_changed", f"from {before.provider} to {after.provider}")
            logger.warning("the model runs on {} now, no longer on {}", after.provider, before.provider)
        step.settled(None)
