"""SIGHUP: the difference between the file as it was and as it is now, applied as a whole or not at all.

    idle ──ask──► read ──other model?──► succession ──► applied
                    └──same model──────────────────────►┘

Nothing here blocks the main thread but reading the file. What is asked for while a reload goes on is served after it,
with the newest file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from streamd.bus.admission import Admission
from streamd.bus.keys import Keyring
from streamd.core.crew import Crew
from streamd.core.errors import ConfigError, StreamdError
from streamd.models.assignment import CPU
from streamd.models.description import Description
from streamd.models.detector import Detector
from streamd.models.session import runs_on_cpu
from streamd.service import loading, logging
from streamd.service.config import Config, Model
from streamd.service.configured import describe_configured, known_names, runtime_options
from streamd.service.fetching import fetched
from streamd.service.fleet import Fleet, RunningModel
from streamd.service.host import Host
from streamd.service.inspection import keyring_of
from streamd.service.start import tell_of
from streamd.service.succession import Building, Succession, TellDaemon
from streamd.service.values import Section

_NEEDS_RESTART = ("publish", "metrics", "runtime")
_OF_THE_SESSION = ("path", "head", "input", "size", "labels")


class Reload:
    """Applies the file anew when asked to. For the main thread, but `ask`."""

    def __init__(
        self, config: Config, succession: Succession, fleet: Fleet, admission: Admission | None, host: Host
    ) -> None:
        self._config = config
        self._files = _files_of(config.model)
        self._succession = succession
        self._fleet = fleet
        self._admission = admission
        self._host = host
        self._asked = False
        self._waiting = False  # for another model

    @property
    def under_way(self) -> bool:
        """Whether there is something left to do: asked for, or another model being made for it."""
        return self._asked or self._waiting

    def ask(self) -> None:
        """Read the file again at the next turn. A signal handler may call it."""
        self._asked = True

    def turn(self, crew: Crew, tell: TellDaemon) -> None:
        """Take the steps that can be taken now. `tell` publishes an event of the daemon."""
        if self._asked and not self._waiting and not self._succession.swapping:
            self._asked = False
            self._read(crew, tell)

    def _read(self, crew: Crew, tell: TellDaemon) -> None:
        self._host.notifier.reloading()
        try:
            config = loading.load(self._host.path, tables=known_names())
            self._host.redact.learn(config.secrets())
            fixed = _needing_restart(self._config, config)
            if fixed:
                raise ConfigError(f"needs a restart: {', '.join(fixed)}")
            keyring = self._keyring(config)
            other = not _same_session(self._config, config) or _files_of(config.model) != self._files
            if other or self._wants_other_cores(config):
                self._build(config, keyring, crew, tell, other=other)
                return
            _check(self._succession.model, config)
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

    def _wants_other_cores(self, config: Config) -> bool:
        """Whether the session has to be made anew for this number of streams, which on the CPU share the cores."""
        model = self._succession.model
        if model.detector.provider != CPU or model.awaited is not None:
            return False
        return runs_on_cpu(runtime_options(config)) != runs_on_cpu(runtime_options(self._config))

    def _build(
        self, config: Config, keyring: Keyring | None, crew: Crew, tell: TellDaemon, *, other: bool
    ) -> None:
        """other: whether it is another model; else what is under way stays good."""
        files = _files_of(config.model)
        model = self._succession.model

        def describe(abandoned: threading.Event) -> Description:
            description = describe_configured(config.model, lambda known: fetched(known, abandoned))
            tell_of(description)
            return description

        def number_of(made: Detector) -> int:
            same = not other and made.takes_pictures_of(model.detector)
            return model.number if same else model.number + 1

        def take_over(made: RunningModel, moved: Callable[[], None]) -> None:
            _check(made, config)
            self._fleet.exchange(made, config.streams, moved)

        def settled(fault: StreamdError | None) -> None:
            self._waiting = False
            if fault is not None:
                self._refuse(fault, tell)
                return
            self._files = files
            self._apply(config, keyring, crew, tell)

        tell("model_building", config.model.path.name)
        self._host.notifier.remark("reload", f"building {config.model.path.name}")
        logger.info("building {}; {} runs on meanwhile", config.model.path.name, model.detector.name)
        options = runtime_options(config)
        self._waiting = True
        building = Building(describe, options, number_of)
        self._succession.begin(building, take_over, settled)

    def _apply(self, config: Config, keyring: Keyring | None, crew: Crew, tell: TellDaemon) -> None:
        if self._admission is not None and keyring is not None:
            self._admission.allow(keyring.clients)
        difference = self._fleet.difference(config.streams)
        self._fleet.apply(difference, config.streams, crew)
        if config.log != self._config.log:
            logging.set_up(config.log.level, config.log.format, self._host.redact, self._host.log)
        self._config = config
        tell("reloaded", str(difference))
        logger.info("reloaded: {}", difference)
        self._host.notifier.remark("reload", None)
        self._host.notifier.ready()

    def _refuse(self, error: StreamdError, tell: TellDaemon) -> None:
        lines = str(error).splitlines()
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        tell("reload_refused", f"{lines[0]}{more}")
        for line in lines:
            logger.error("reload refused, nothing was changed: {}", line)
        self._host.notifier.remark("reload", f"reload refused: {lines[0]}{more}")
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
    # Of a known model the name says which bytes it has.
    for path in (model.path, model.labels):
        try:
            state = Path(path).stat() if isinstance(path, Path) else None
        except OSError:
            state = None
        found.append(state and (state.st_ino, state.st_size, state.st_mtime_ns))
    return found
