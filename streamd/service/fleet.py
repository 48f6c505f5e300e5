"""The streams that run: made for the model that runs, added, changed, removed, each without touching the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loguru import logger

from streamd.core.crew import Crew
from streamd.core.errors import ConfigError
from streamd.core.timing import NS_PER_MS
from streamd.models.detector import Detector
from streamd.models.device import CudaDevice
from streamd.models.selection import Rules
from streamd.models.session import RuntimeOptions
from streamd.pipeline.keeping import Keeping
from streamd.pipeline.lane import Lane
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool
from streamd.pipeline.worker import Worker
from streamd.service.config import Stream as StreamConfig
from streamd.service.configured import rules_of
from streamd.service.streams import Announce, Stream, fast_ring

_LIVE_RING = 2  # one that waits and one that arrives: more would only be older
_EVERY_RING = 4

# What a running stream takes over as it is; for anything else its source is opened again.
_ADJUSTED = {"confidence", "iou", "classes", "region", "min_size", "max_age_ms", "max_fps"}
# What makes another stream of it, whose frames are counted from 0.
_IDENTITY = {"url"}


@dataclass(frozen=True, slots=True)
class RunningModel:
    """The model that the streams prepare their pictures for.

    number: counts the models of this process, and the forms in which one wants its pictures: on another provider that
    takes them as they are it has the same. awaited: what is to run it as soon as an engine is built; None when it
    runs as it was asked to, or as well as it can.
    """

    detector: Detector
    warm_ms: float
    number: int = 0
    awaited: RuntimeOptions | None = None

    def rules(self, stream: StreamConfig) -> Rules:
        """The stream's rules with this model's classes.

        Raises ConfigError for a class that it does not know, and for an age budget that one inference exceeds, unless
        something faster is awaited.
        """
        try:
            refuse_hopeless_age(stream, self.warm_ms)
        except ConfigError as error:
            if self.awaited is None:
                raise
            logger.warning("{}; until the engine is built, results that come too late are dropped", error)
        return rules_of(stream, self.detector.labels)


@dataclass(frozen=True, slots=True)
class Difference:
    """What becomes of the streams. Streams in neither go on untouched."""

    removed: tuple[str, ...]
    added: tuple[StreamConfig, ...]
    changed: tuple[StreamConfig, ...]

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return (
            ", ".join(f"{len(rows)} {what}" for what, rows in counts.items() if rows) or "no stream changed"
        )


class Fleet:
    """Every running stream. For the main thread, but `streams`, which any thread may read."""

    def __init__(
        self,
        model: RunningModel,
        rings: Rings,
        worker: Worker,
        announce: Announce,
        keeping: Callable[[str], Keeping] = lambda stream: Keeping(),
    ) -> None:
        """keeping: what decides over the pictures of the stream with this id."""
        self._model = model
        self._rings = rings
        self._worker = worker
        self._announce = announce
        self._keeping = keeping
        self._devices: dict[int, CudaDevice] = {}
        self._starts: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        self.streams: Mapping[str, Stream] = {}
        """By id, in the order of the configuration. Exchanged as a whole, never changed."""

    def difference(self, configs: Iterable[StreamConfig]) -> Difference:
        """What has to happen so that these streams run, those that are enabled."""
        wanted = {config.id: config for config in configs if config.enabled}
        now = {name: stream.config for name, stream in self.streams.items()}
        other = {name for name in wanted.keys() & now if _differing(wanted[name], now[name]) & _IDENTITY}
        return Difference(
            removed=tuple(name for name in now if name not in wanted or name in other),
            added=tuple(config for name, config in wanted.items() if name not in now or name in other),
            changed=tuple(
                config
                for name, config in wanted.items()
                if name in now and name not in other and config != now[name]
            ),
        )

    def apply(self, difference: Difference, order: Iterable[StreamConfig], crew: Crew) -> None:
        """Remove, change and add; the decoders of new streams are started. Never blocks.

        The configurations have proven with `RunningModel.rules` that they fit the model.
        """
        streams = dict(self.streams)
        for name in difference.removed:
            streams.pop(name).remove()
        for config in difference.changed:
            self._change(streams[config.id], config, crew)
        for config in difference.added:
            streams[config.id] = self._added(config)
        self.streams = {config.id: streams[config.id] for config in order if config.id in streams}
        for config in difference.added:
            self._run(self.streams[config.id], crew)

    def exchange(
        self, model: RunningModel, configs: Iterable[StreamConfig], moved: Callable[[], None]
    ) -> None:
        """Let the worker run this model from the next batch on, and the streams prepare their pictures for it.

        Never blocks; `moved` is called in the worker's thread when it is done, and the former model is nobody's.
        Raises ConfigError when a stream does not fit the model.
        """
        moves = []
        for config in configs:
            stream = self.streams.get(config.id)
            # What is not wanted any more keeps its old slots: its frames come to nothing until it is removed.
            if config.enabled and stream is not None:
                moves.append((stream.lane, self._slots(model, config), model.rules(config)))

        def adopt() -> None:
            self._model = model
            for lane, slots, rules in moves:
                lane.slots, lane.rules = slots, rules
            moved()

        self._worker.exchange(model.detector, model.number, adopt)

    def upgrade(self, model: RunningModel, moved: Callable[[], None]) -> None:
        """Let the worker run the same model on another provider.

        With the same number no frame is lost, each keeps its slot; with another one the streams prepare their
        pictures anew from then on, and those under way are dropped (`model_changed`).
        Never blocks; `moved` as in `exchange`. Until then no stream may be added or changed.
        """
        streams = self.streams.values()
        for stream in streams:
            # Told of, but no reason to stay on what is slower still; and it was measured beside what serves.
            try:
                refuse_hopeless_age(stream.config, model.warm_ms)
            except ConfigError as error:
                logger.warning("{}", error)

        same = model.number == self._model.number

        def adopt() -> None:
            self._model = model
            for stream in streams:
                lane = stream.lane
                if same and lane.slots.target.device is self._device_of(model):
                    # More pictures may be in it at once.
                    lane.slots.allow(_slots_wanted(model, stream.config))
                else:
                    lane.slots = self._slots(model, stream.config)
            moved()

        self._worker.exchange(model.detector, model.number, adopt)

    def leave(self) -> None:
        """Ask every decoder to end. Never blocks."""
        for stream in self.streams.values():
            stream.leave()

    def _added(self, config: StreamConfig) -> Stream:
        epoch = self._epochs.get(config.id, -1) + 1
        self._epochs[config.id] = epoch
        lane = Lane(
            stream=config.id,
            slots=self._slots(self._model, config),
            rules=rules_of(config, self._model.detector.labels),
            max_age_ns=_age_ns(config),
            live=config.intent != "every",
            keeping=self._keeping(config.id),
            epoch=epoch,
        )
        return Stream(config, lane, self._rings, _ring_size(config), self._announce)

    def _change(self, stream: Stream, config: StreamConfig, crew: Crew) -> None:
        lane, before = stream.lane, stream.config
        lane.rules = rules_of(config, self._model.detector.labels)
        lane.max_age_ns = _age_ns(config)
        if not _differing(config, before) - _ADJUSTED:
            stream.adjust(config)
            return
        if _most_waiting(self._model, config) != _most_waiting(self._model, before):
            lane.slots = self._slots(self._model, config)
        if not stream.reopen(config, _ring_size(config)):
            self._run(stream, crew)

    def _slots(self, model: RunningModel, config: StreamConfig) -> SlotPool:
        detector = model.detector
        target = ModelInput(detector.contract, detector.input, model.number, self._device_of(model))
        return SlotPool(target, _slots_wanted(model, config))

    def _device_of(self, model: RunningModel) -> CudaDevice | None:
        """The GPU that takes pictures for this model from its own memory; the same one for all models of a number."""
        number = model.detector.device
        return None if number is None else self._devices.setdefault(number, CudaDevice(number))

    def _run(self, stream: Stream, crew: Crew) -> None:
        # A decoder of this name may still be there: of a removed stream, waiting for its camera, or one that has
        # just ended. So each has a number.
        name = stream.config.id
        number = self._starts.get(name, 0)
        self._starts[name] = number + 1
        crew.start(f"decode:{name}" + (f"/{number}" if number else ""), stream.run)


def _differing(one: StreamConfig, other: StreamConfig) -> set[str]:
    return {key for key in StreamConfig.model_fields if getattr(one, key) != getattr(other, key)}


def _ring_size(config: StreamConfig) -> int:
    return _EVERY_RING if config.intent == "every" else _LIVE_RING


def _most_waiting(model: RunningModel, config: StreamConfig) -> int:
    """In the ring, which is larger for a file that is read as fast as it goes (`Stream`)."""
    return max(_ring_size(config), fast_ring(model.detector.input) if config.pace == "fast" else 0)


def _slots_wanted(model: RunningModel, config: StreamConfig) -> int:
    """In the ring, in the model, and being written; made when they are needed."""
    return _most_waiting(model, config) + model.detector.at_once + 1


def _age_ns(config: StreamConfig) -> int | None:
    return None if config.max_age_ms is None else int(config.max_age_ms * NS_PER_MS)


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
