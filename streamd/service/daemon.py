"""The daemon: brings the path up bottom first, watches over it, and takes it down top first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from loguru import logger

from streamd.bus.admission import Admission
from streamd.bus.keys import Keyring
from streamd.bus.publisher import Note, Publisher, Wake
from streamd.core.crew import Crew
from streamd.core.errors import ConfigError, CrashError, OutputError, StreamdError
from streamd.core.secrets import Redactor
from streamd.core.timing import NS_PER_MS, Deadline, StageTimes, now_ns
from streamd.models.detector import Detector
from streamd.models.session import NAMES
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import SlotPool
from streamd.pipeline.worker import Worker
from streamd.service.announcer import Announcer
from streamd.service.config import Config
from streamd.service.config import Stream as StreamConfig
from streamd.service.configured import rules_of
from streamd.service.metrics import MetricsServer, Vitals
from streamd.service.signals import StopSignals
from streamd.service.status import StatusReporter
from streamd.service.streams import Stream

STOP_S = 4.5
"""Everything has ended this long after a signal; what is left of 5 s is for the exit itself."""
_WATCH_S = 0.5
_LIVE_RING = 2  # one that waits and one that arrives: more would only be older
_EVERY_RING = 4
_OUTBOX = 64
_BIND_S = 5.0
_DRAIN_S = 1.0  # of STOP_S is kept for the worker and the publisher


class Daemon:
    """Runs a configuration until a signal, a crash, or the end of all its files."""

    def __init__(
        self,
        config: Config,
        detector: Detector,
        warm_ms: float,
        redact: Redactor,
        keyring: Keyring | None = None,
    ) -> None:
        self._config = config
        self._detector = detector
        self._warm_ms = warm_ms
        self._redact = redact
        self.stuck: list[str] = []
        self._wake = Wake()
        self._outbox: Outbox[Note] = Outbox(_OUTBOX, self._wake)
        self._rings = Rings()
        self._announcer = Announcer(self._outbox, redact)
        self._streams: dict[str, Stream] = {}
        self._reporter = StatusReporter(self._announcer.run, detector)
        self._publisher = Publisher(
            config.publish.bind,
            self._outbox,
            self._wake,
            self._announcer.run,
            group=config.publish.group,
            admission=None if keyring is None else Admission(keyring, self._announcer.client_refused),
            times_of=self._times_of,
        )
        beats: dict[str, Callable[[], int]] = {
            "infer": lambda: self.worker.beat_ns,
            "publish": lambda: self._publisher.beat_ns,
        }
        self._vitals = Vitals(self._streams, detector, config.runtime.precision, redact, beats)
        self.worker: Worker = Worker(detector, self._rings, self._outbox, on_batch=self._vitals.count_batch)

    def run(self) -> None:
        """Serve; blocks the main thread. Afterwards `stuck` names the threads that did not end in time.

        Raises ConfigError for an age budget that cannot be kept or a class that the model does not know,
        OutputError when binding fails, CrashError for an expected failure in a thread, and as it is what
        nobody expected.
        """
        # Many threads hand the GIL to each other for moments: the default of 5 ms makes each of them late.
        sys.setswitchinterval(0.0002)
        for config in self._config.streams:
            if config.enabled:
                refuse_hopeless_age(config, self._warm_ms)
                self._streams[config.id] = self._stream(config)
        with Crew() as crew, StopSignals(crew.nudge) as signals:
            try:
                self._start(crew)
                self._watch(crew, signals, "decode:" if self._streams else "publish")
                # Files that played to their end are worked off, however long the model takes.
                self._rings.close(drain=True)
                self._watch(crew, signals, "infer")
            finally:
                self._stop(crew, signals)
        if isinstance(crew.failure, StreamdError):
            raise CrashError(self._redact(f"{crew.failed_thread}: {crew.failure}")) from crew.failure
        if crew.failure is not None:
            raise crew.failure

    def _start(self, crew: Crew) -> None:
        crew.start("publish", self._publisher.run)
        deadline = Deadline(_BIND_S)
        while not self._publisher.bound.wait(0.01):
            if crew.failure is not None:
                raise crew.failure
            if not deadline.left_s():
                raise OutputError(
                    f"publish.bind: {self._config.publish.bind} could not be bound in {_BIND_S:g} s"
                )
        if self._config.metrics.listen is not None:
            server = MetricsServer(self._config.metrics.listen, self._vitals)
            crew.start("http", partial(server.run, crew.stop))
            logger.info("metrics on port {}", server.port)
        crew.start("infer", self.worker.run)
        self._vitals.ready.set()
        self._announcer.daemon("ready", f"publishing on {self._publisher.endpoint}")
        wanted = NAMES[self._config.runtime.providers[0]]
        if self._detector.provider != wanted:
            logger.warning("the model runs on {}, not on {}", self._detector.provider, wanted)
        logger.info(
            "ready: {} on {}, publishing on {}",
            self._detector.name,
            self._detector.provider,
            self._publisher.endpoint,
        )
        for name, stream in self._streams.items():
            crew.start(f"decode:{name}", partial(stream.run, crew.stop))

    def _stream(self, config: StreamConfig) -> Stream:
        description = self._detector.description
        ring = _EVERY_RING if config.intent == "every" else _LIVE_RING
        lane = Lane(
            stream=config.id,
            slots=SlotPool(description.graph.input, ring + 1 + self._detector.limit),
            rules=rules_of(config, description.labels),
            max_age_ns=None if config.max_age_ms is None else int(config.max_age_ms * NS_PER_MS),
            live=config.intent != "every",
        )
        model_input = (description.contract, description.graph.input)
        return Stream(config, lane, self._rings, ring, model_input, self._announcer.stream)

    def _watch(self, crew: Crew, signals: StopSignals, prefix: str) -> None:
        """Watch for stalls and report once a second, until a signal, a crash, or the end of these threads."""
        while crew.running(prefix) and not signals.asked and crew.failure is None:
            for stream in self._streams.values():
                stream.watch(now_ns())
            status = self._reporter.due(self._streams)
            if status is not None:
                self._outbox.note(status)
            crew.wait(_WATCH_S)

    def _stop(self, crew: Crew, signals: StopSignals) -> None:
        """Top down under one deadline: decoders leave, the worker drains, the publisher drains."""
        deadline = Deadline(STOP_S)
        if signals.asked:
            self._announcer.daemon("stopping", None)
        crew.ask_stop()
        if crew.failure is not None:
            # Nobody may take what is posted any more: the worker must not wait for room.
            self._outbox.close()
        # Nothing waits for the model any more.
        self._rings.close(drain=False)
        crew.join("decode:", Deadline(deadline.left_s() - _DRAIN_S))
        crew.join("infer", deadline)
        for stream in self._streams.values():
            stream.remove()
        self._outbox.close()
        crew.join("", deadline)
        self.stuck = crew.running()

    def _times_of(self, stream: str) -> StageTimes | None:
        found = self._streams.get(stream)
        return found.times if found else None


def refuse_hopeless_age(stream: StreamConfig, warm_ms: float) -> None:
    """Compare a live stream's age budget with one warm inference.

    More than all of it: ConfigError, every result would be late. More than half: a warning.
    """
    budget = stream.max_age_ms
    if budget is None or stream.intent == "every":
        return
    smallest = int(warm_ms * 2) + 1
    if warm_ms > budget:
        raise ConfigError(
            f"streams.{stream.id}.max_age_ms: one inference takes {warm_ms:.0f} ms here, more than the budget of "
            f"{budget} ms; set it to at least {smallest}, or to null for no budget"
        )
    if warm_ms > budget / 2:
        logger.warning(
            "{}: one inference takes {:.0f} ms, more than half of max_age_ms {}; the smallest that works is {}",
            stream.id,
            warm_ms,
            budget,
            smallest,
        )
