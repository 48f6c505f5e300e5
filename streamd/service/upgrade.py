"""The provider that was asked for, once its engine is built: what serves meanwhile makes way for it."""

from __future__ import annotations

from functools import partial

from loguru import logger

from streamd.core.errors import StreamdError
from streamd.models.detector import Detector
from streamd.models.session import NAMES
from streamd.service.fleet import Fleet, RunningModel
from streamd.service.succession import AbandonedError, Building, Succession, TellDaemon
from streamd.service.systemd import Notifier


class Upgrade:
    """Has the engine built that the running model waits for. For the main thread.

    A model is tried once: when its engine cannot be built, what runs serves on until the next start or another model.
    """

    def __init__(self, succession: Succession, fleet: Fleet, notifier: Notifier) -> None:
        self._succession = succession
        self._fleet = fleet
        self._notifier = notifier
        self._in_vain: RunningModel | None = None

    def turn(self, tell: TellDaemon) -> None:
        """Begin when there is something to begin with: also again, after a reload that came to nothing."""
        model = self._succession.model
        if model.awaited is None or model is self._in_vain or self._succession.under_way:
            return
        detector = model.detector
        name = NAMES[model.awaited.providers[0]]

        def number_of(other: Detector) -> int:
            return model.number if other.takes_pictures_of(detector) else model.number + 1

        building = Building(lambda abandoned: detector.description, model.awaited, number_of)
        tell("model_building", f"{detector.name} for {name}")
        logger.info("building {} for {}; it runs on {} meanwhile", detector.name, name, detector.provider)
        self._notifier.remark("engine", f"building the engine for {name}")
        self._succession.begin(building, self._fleet.upgrade, partial(self._settled, model))

    def _settled(self, model: RunningModel, fault: StreamdError | None) -> None:
        self._notifier.remark("engine", None)
        if fault is None or isinstance(fault, AbandonedError):
            return
        self._in_vain = model
        running = model.detector.provider
        logger.error(
            "{}; {} serves on; try again by a restart, or by `streamd build` before it", fault, running
        )
        self._notifier.remark("engine", f"the engine could not be built, {running} serves on")
