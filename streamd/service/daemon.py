"""The daemon: brings the path up bottom first, watches over it, and takes it down top first."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from functools import partial

from loguru import logger

from streamd.bus.admission import Admission
from streamd.bus.endpoint import Endpoint
from streamd.bus.pictures import PicturePublisher
from streamd.bus.publisher import Note, Publisher
from streamd.bus.wake import Wake
from streamd.core.crew import Crew
from streamd.core.errors import CrashError, OutputError, StreamdError
from streamd.core.histograms import StageTimes
from streamd.core.timing import Deadline, now_ns
from streamd.models.session import NAMES
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.outbox import Outbox
from streamd.pipeline.ring import Rings
from streamd.pipeline.worker import Worker
from streamd.service.announcer import Announcer
from streamd.service.config import Config, Publish
from streamd.service.fleet import Fleet, RunningModel
from streamd.service.host import Host
from streamd.service.log_output import LINES_PER_S
from streamd.service.monitoring import MonitoringServer, Vitals
from streamd.service.reload import Reload
from streamd.service.render import JpegEncoder
from streamd.service.signals import StopSignals
from streamd.service.status import StatusReporter, sentence
from streamd.service.succession import Succession
from streamd.service.upgrade import Upgrade

STOP_S = 4.5
"""Everything has ended this long after a signal; what is left of 5 s is for the exit itself."""
_WATCH_S = 0.5
_OUTBOX = 64
_BIND_S = 5.0
_DRAIN_S = 1.0  # of STOP_S is kept for the worker and the publisher


class Daemon:
    """Runs a configuration until a signal, a crash, or the end of all its files."""

    def __init__(self, config: Config, model: RunningModel, host: Host) -> None:
        self._config = config
        self._redact = redact = host.redact
        self._hang_ups = host.hang_ups
        self._notifier = host.notifier
        self._log = host.log
        self.stuck: list[str] = []
        self._wake = Wake()
        self._outbox: Outbox[Note] = Outbox(_OUTBOX, self._wake)
        self._rings = Rings()
        self._announcer = Announcer(self._outbox, redact)
        admission = None if host.keyring is None else Admission(host.keyring, self._announcer.client_refused)
        self._pictures = picture_publisher(config.publish, admission)
        self._publisher = Publisher(
            config.publish.bind,
            self._outbox,
            self._wake,
            self._announcer.run,
            group=config.publish.group,
            admission=admission,
            times_of=self._times_of,
            on_sent=self._pictures.offer if self._pictures else None,
        )
        beats: dict[str, Callable[[], int]] = {
            "infer": lambda: self.worker.beat_ns,
            "publish": lambda: self._publisher.beat_ns,
        }
        self._vitals = Vitals(
            lambda: self._fleet.streams,
            lambda: self._succession.model.detector,
            config.runtime.precision,
            redact,
            beats,
            host.log,
            self._pictures,
        )
        self.worker: Worker = Worker(
            model.detector, self._rings, self._outbox, on_batch=self._vitals.count_batch
        )
        self._infer_threads = 0
        keeping = self._pictures.keeping if self._pictures else lambda stream: Keeping()
        self._fleet = Fleet(model, self._rings, self.worker, self._announcer.stream, keeping)
        self._succession = Succession(model)
        self._reload = Reload(config, self._succession, self._fleet, admission, host)
        self._upgrade = Upgrade(self._succession, self._fleet, host.notifier)
        self._reporter = StatusReporter(self._announcer.run)

    def run(self) -> None:
        """Serve; blocks the main thread. Afterwards `stuck` names the threads that did not end in time.

        Raises ConfigError for an age budget that cannot be kept or a class that the model does not know,
        OutputError when binding fails, CrashError for an expected failure in a thread, and as it is what
        nobody expected.
        """
        # Many threads hand the GIL to each other for moments: the default of 5 ms makes each of them late.
        sys.setswitchinterval(0.0002)
        # A full collection halts all threads while it looks at every object there is, nearly all of them modules and
        # their like. Before the streams: what belongs to one of them has to go with it.
        gc.freeze()
        for config in self._config.streams:
            if config.enabled:
                self._succession.model.rules(config)
        with Crew() as crew, StopSignals(crew.nudge) as signals:
            self._hang_ups.nudge = crew.nudge
            try:
                self._start(crew)
                self._watch(crew, signals, lambda: self._all_played(crew))
                # Files that played to their end are worked off, however long the model takes.
                self._rings.close(drain=True)
                self._watch(crew, signals, lambda: not crew.running("infer"))
            finally:
                self._hang_ups.nudge = lambda: None
                self._stop(crew, signals)
                gc.unfreeze()
        if isinstance(crew.failure, StreamdError):
            raise CrashError(self._redact(f"{crew.failed_thread}: {crew.failure}")) from crew.failure
        if crew.failure is not None:
            raise crew.failure

    def _start(self, crew: Crew) -> None:
        crew.start("publish", self._publisher.run)
        _await_bound(crew, self._publisher.bound, f"publish.bind: {self._config.publish.bind}")
        if self._pictures is not None:
            crew.start("frames", partial(self._pictures.run, crew.stop))
            _await_bound(crew, self._pictures.bound, f"publish.frames: {self._config.publish.frames}")
            logger.info("pictures on {}", self._pictures.endpoint)
        if self._config.metrics.listen is not None:
            server = MonitoringServer(self._config.metrics.listen, self._vitals)
            crew.start("http", partial(server.run, crew.stop))
            logger.info("metrics on port {}", server.port)
        self._run_worker(crew)
        # Before anybody is told: whoever asks for the streams after that finds them.
        streams = self._config.streams
        self._fleet.apply(self._fleet.difference(streams), streams, crew)
        self._vitals.ready.set()
        self._announcer.daemon("ready", f"publishing on {self._publisher.endpoint}")
        detector = self._succession.model.detector
        wanted = NAMES[self._config.runtime.providers[0]]
        if detector.provider != wanted and self._succession.model.awaited is None:
            logger.warning("the model runs on {}, not on {}", detector.provider, wanted)
        logger.info(
            "ready: {} on {}, publishing on {}",
            detector.name,
            detector.provider,
            self._publisher.endpoint,
        )
        self._notifier.ready(f"ready: {detector.name} on {detector.provider}")

    def _run_worker(self, crew: Crew) -> None:
        """Start the threads of the worker that are not there yet: another model may want more of them."""
        for number in range(self._infer_threads, self.worker.threads):
            crew.start(f"infer/{number}" if number else "infer", self.worker.run)
        self._infer_threads = self.worker.threads

    def _all_played(self, crew: Crew) -> bool:
        """Whether all that there is are files, and each has ended."""
        return bool(self._fleet.streams) and not crew.running("decode:") and not self._reload.under_way

    def _watch(self, crew: Crew, signals: StopSignals, over: Callable[[], bool]) -> None:
        """Watch for stalls, report once a second, reload when asked, until a signal, a crash, or `over`."""
        while not signals.asked and crew.failure is None:
            if self._hang_ups.taken():
                self._reload.ask()
            self._reload.turn(crew, self._announcer.daemon)
            self._upgrade.turn(self._announcer.daemon)
            self._succession.turn(crew, self._announcer.daemon)
            self._run_worker(crew)
            if over():
                return
            for stream in self._fleet.streams.values():
                stream.watch(now_ns())
            status = self._reporter.due(self._fleet.streams, self._succession.model.detector)
            if status is not None:
                self._outbox.note(status)
                self._notifier.status(sentence(status, self._vitals.stuck()))
            # Of the worker and the publisher alone: a decoder that hangs is an event of its stream.
            self._notifier.progress(beat_ns() for beat_ns in self._vitals.beats.values())
            self._tell_of_the_log()
            crew.wait(_WATCH_S)

    def _tell_of_the_log(self) -> None:
        trouble = self._log.trouble()
        if trouble is not None:
            self._announcer.daemon("output_failed", trouble)
            logger.warning("{}", trouble)
        if left_out := self._log.left_out():
            logger.warning("{} lines left out: they were more than {} a second", left_out, LINES_PER_S)

    def _stop(self, crew: Crew, signals: StopSignals) -> None:
        """Top down under one deadline: decoders leave, the worker drains, the publisher drains."""
        deadline = Deadline(STOP_S)
        self._notifier.stopping()
        if signals.asked:
            self._announcer.daemon("stopping", None)
            logger.info("stopping, as asked by a signal")
        crew.ask_stop()
        self._succession.abandon()
        self._fleet.leave()
        if crew.failure is not None:
            # Nobody may take what is posted any more: the worker must not wait for room.
            self._outbox.close()
        # Nothing waits for the model any more.
        self._rings.close(drain=False)
        crew.join("decode:", Deadline(deadline.left_s() - _DRAIN_S))
        crew.join("infer", deadline)
        for stream in self._fleet.streams.values():
            stream.remove()
        self._outbox.close()
        crew.join("", deadline)
        self.stuck = crew.running()
        if not self.stuck:
            self._succession.close()

    def _times_of(self, stream: str) -> StageTimes | None:
        found = self._fleet.streams.get(stream)
        return found.times if found else None


def picture_publisher(publish: Publish, admission: Admission | None) -> PicturePublisher | None:
    """What sends pictures; None when the configuration has no endpoint for them."""
    if publish.frames is None:
        return None
    endpoint = Endpoint("publish.frames", publish.frames, publish.group)
    encode = JpegEncoder(publish.frames_quality)
    return PicturePublisher(endpoint, encode, publish.frames_max_fps, admission)


def _await_bound(crew: Crew, bound: threading.Event, what: str) -> None:
    """Block until a socket is bound. Raises what its thread failed with; OutputError when it takes too long."""
    deadline = Deadline(_BIND_S)
    while not bound.wait(0.01):
        if crew.failure is not None:
            raise crew.failure
        if not deadline.left_s():
            raise OutputError(f"{what} could not be bound in {_BIND_S:g} s")
