"""SIGHUP: the difference between the file as it was and as it is now, applied as a whole or not at all.

    idle ──ask──► read ──other model?──► building ──► swapping ──► applied
                    └──same model────────────────────────────────►┘

A step is taken each time the main thread turns; nothing here blocks it but reading the file. What is asked for while
a reload goes on is served after it, with the newest file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from loguru import logger

from streamd.bus import wire
from streamd.bus.admission import Admission
from streamd.bus.keys import Keyring
from streamd.core.crew import Crew
from streamd.core.errors import ConfigError, StreamdError
from streamd.service import loading, logging
from streamd.service.config import Config, Model
from streamd.service.configured import describe_configured, known_names, runtime_options
from streamd.service.fleet import Fleet, RunningModel
from streamd.service.host import Host
from streamd.service.inspection import keyring_of
from streamd.service.start import open_detector
from streamd.service.values import Section

_NEEDS_RESTART = ("publish", "metrics", "runtime")
_OF_THE_SESSION = ("path", "head", "input", "size", "labels")


Tell: TypeAlias = Callable[[wire.DaemonEventName, str | None], None]
"""Publishes an event of the daemon."""


class Building:
    """A model that is built and warmed in the thread `build`, and what came of it."""

    def __init__(self, config: Config, keyring: Keyring | None, number: int) -> None:
        self.config = config
        self.keyring = keyring
        self.files = _files_of(config.model)
        self._number = number
        self.model: RunningModel | None = None
        self.fault: StreamdError | None = None
        self.ended = threading.Event()
        self._stack = ExitStack()

    def run(self) -> None:
        """The body of the thread. Blocks for as long as an engine is built."""
        config = self.config
        try:
            description = describe_configured(config.model)
            options = runtime_options(config)
            detector, warm_ms = self._stack.enter_context(open_detector(description, options))
            self.model = RunningModel(detector, warm_ms, self._number)
        except StreamdError as error:
            self.fault = error
        finally:
            self.ended.set()

    def close(self) -> None:
        """Free what was built: nobody runs it."""
        self._stack.close()


class Reload:
    """Applies the file anew when asked to. For the main thread, but `ask`."""

    def __init__(
        self, config: Config, model: RunningModel, fleet: Fleet, admission: Admission | None, host: Host
    ) -> None:
        self._config = config
        self._files = _files_of(config.model)
        self._fleet = fleet
        self._admission = admission
        self._host = host
        self._asked = False
        self._building: Building | None = None
        self._built: Building | None = None  # what holds the model that runs; the first one is the caller's
        self._swapped: threading.Event | None = None
        self.model = model
        """The model that runs."""

    @property
    def under_way(self) -> bool:
        """Whether there is something left to do: asked for, being built, or being exchanged."""
        return self._asked or self._building is not None

    def ask(self) -> None:
        """Read the file again at the next turn. A signal handler may call it."""
        self._asked = True

    def turn(self, crew: Crew, tell: Tell) -> None:
        """Take the steps that can be taken now. `tell` publishes an event of the daemon."""
        building = self._building
        if building is None:
            if self._asked:
                self._asked = False
                self._read(crew, tell)
        elif self._swapped is None:
            if not crew.running("build"):
                self._exchange(building, crew, tell)
        elif self._swapped.is_set():
            self._exchanged(building, crew, tell)

    def close(self) -> None:
        """Free the models that this has built. The worker has ended."""
        for building in (self._built, self._building):
            if building is not None and building.ended.is_set():
                building.close()

    def _read(self, crew: Crew, tell: Tell) -> None:
        self._host.notifier.reloading()
        try:
            config = loading.load(self._host.path, tables=known_names())
            self._host.redact.learn(config.secrets())
            fixed = _needing_restart(self._config, config)
            if fixed:
                raise ConfigError(f"needs a restart: {', '.join(fixed)}")
            keyring = self._keyring(config)
            if not _same_session(self._config, config) or _files_of(config.model) != self._files:
                self._build(config, keyring, crew, tell)
                return
            _check(self.model, config)
        except StreamdError as error:
            self._refuse(error, tell)
            return
        self._apply(config, keyring, crew, tell)

    def _keyring(self, config: Config) -> Keyring | None:
        """The keys as they are now. Raises KeysError, and ConfigError when the daemon's own are others."""
        keyring = keyring_of(config)
        if keyring is not None and self._admission is not None and keyring.server != self._admission.server:
            raise ConfigError("needs a restart: publish.curve (its server key is another)")
        return keyring

    def _build(self, config: Config, keyring: Keyring | None, crew: Crew, tell: Tell) -> None:
        self._building = Building(config, keyring, self.model.number + 1)
        tell("model_building", config.model.path.name)
        self._host.notifier.remark(f"building {config.model.path.name}")
        logger.info("building {}; {} runs on meanwhile", config.model.path.name, self.model.detector.name)
        crew.start("build", self._building.run)

    def _exchange(self, building: Building, crew: Crew, tell: Tell) -> None:
        try:
            if building.fault is not None:
                tell("model_failed", str(building.fault))
                raise building.fault
            assert building.model is not None
            _check(building.model, building.config)
            swapped = threading.Event()

            def moved() -> None:
                swapped.set()
                crew.nudge()

            self._fleet.exchange(building.model, building.config.streams, moved)
        except StreamdError as error:
            building.close()
            self._building = None
            self._refuse(error, tell)
            return
        self._swapped = swapped

    def _exchanged(self, building: Building, crew: Crew, tell: Tell) -> None:
        assert building.model is not None
        if self._built is None:
            self.model.detector.close()
        else:
            self._built.close()
        self.model, self._built = building.model, building
        self._files = building.files
        self._building = self._swapped = None
        tell("model_ready", f"{self.model.detector.name} on {self.model.detector.provider}")
        self._apply(building.config, building.keyring, crew, tell)

    def _apply(self, config: Config, keyring: Keyring | None, crew: Crew, tell: Tell) -> None:
        if self._admission is not None and keyring is not None:
            self._admission.allow(keyring.clients)
        difference = self._fleet.difference(config.streams)
        self._fleet.apply(difference, config.streams, crew)
        if config.log != self._config.log:
            logging.set_up(config.log.level, config.log.format, self._host.redact, self._host.log)
        self._config = config
        tell("reloaded", str(difference))
        logger.info("reloaded: {}", difference)
        self._host.notifier.remark(None)
        self._host.notifier.ready()

    def _refuse(self, error: StreamdError, tell: Tell) -> None:
        lines = str(error).splitlines()
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        tell("reload_refused", f"{lines[0]}{more}")
        for line in lines:
            logger.error("reload refused, nothing was changed: {}", line)
        self._host.notifier.remark(f"reload refused: {lines[0]}{more}")
        self._host.notifier.ready()


def _check(model: RunningModel, config: Config) -> None:
    for stream in config.streams:
        if stream.enabled:
            model.rules(stream)


def _needing_restart(before: Config, after: Config) -> list[str]:
    found = []
    for name in _NEEDS_RESTART:
        one: Section = getattr(before, name)
        other: Section = getattr(after, name)
        keys = type(one).model_fields
        found += [f"{name}.{key}" for key in keys if getattr(one, key) != getattr(other, key)]
    return found


def _same_session(before: Config, after: Config) -> bool:
    """Whether the session that runs is what the new configuration asks for."""
    same = all(getattr(before.model, key) == getattr(after.model, key) for key in _OF_THE_SESSION)
    return same and before.batch == after.batch


def _files_of(model: Model) -> list[tuple[int, int, int] | None]:
    """What tells that the model's files were exchanged under the same names: inode, size, time."""
    found: list[tuple[int, int, int] | None] = []
    for path in (model.path, model.labels):
        try:
            state = Path(path).stat() if isinstance(path, Path) else None
        except OSError:
            state = None
        found.append(state and (state.st_ino, state.st_size, state.st_mtime_ns))
    return found
