"""`streamd run`: the daemon."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import typer

from streamd.cli import options
from streamd.core.errors import StreamdError

if TYPE_CHECKING:
    from pathlib import Path

    from streamd.core.secrets import Redactor
    from streamd.service.config import Config
    from streamd.service.log_output import LogOutput
    from streamd.service.signals import HangUps


def run(config: options.Config) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Example: streamd run -c /etc/streamd/streamd.yaml
    """
    import faulthandler

    from streamd.service import signals

    if sys.__stderr__ is not None:
        # What ends a process without an exception (systemd's watchdog sends SIGABRT) leaves where each thread was.
        faulthandler.enable(sys.__stderr__)
    # Before all that takes long, imports included: a signal of the first second must not just kill the process.
    with signals.HangUps().seen() as hang_ups, signals.leaving_at_once():
        _configured(config, hang_ups)


def _configured(config: Path, hang_ups: HangUps) -> None:
    from loguru import logger

    from streamd.core.secrets import Redactor
    from streamd.service import loading, logging
    from streamd.service.configured import known_names
    from streamd.service.log_output import LogOutput

    redact, output = Redactor(), LogOutput()
    settings = loading.load(config, tables=known_names())
    redact.learn(settings.secrets())
    logging.set_up(settings.log.level, settings.log.format, redact, output)
    try:
        _serve(config, settings, redact, hang_ups, output)
    except StreamdError as error:
        if settings.log.format != "json":
            raise
        # Whoever reads the log as JSON finds the end there too.
        logger.error("{}", error)
        raise typer.Exit(error.exit_code) from None


def _serve(path: Path, settings: Config, redact: Redactor, hang_ups: HangUps, output: LogOutput) -> None:
    from loguru import logger

    from streamd.service.configured import describe_configured, runtime_options
    from streamd.service.daemon import Daemon
    from streamd.service.fetching import fetched
    from streamd.service.host import Host
    from streamd.service.inspection import exposures, keyring_of
    from streamd.service.start import open_for_service
    from streamd.service.systemd import Notifier

    for line in exposures(settings):
        logger.warning("{}", line)
    # Before the model, which may take minutes: a wrong key file is told of at once.
    keyring = keyring_of(settings)
    if keyring is not None:
        redact.learn({keyring.server.secret})
        for line in keyring.notes:
            logger.warning("{}", line)
    notifier = Notifier(os.environ, redact)  # systemd names its socket and the watchdog there
    model = describe_configured(settings.model, lambda known: fetched(known, waiting=notifier.building))
    options = runtime_options(settings)
    with open_for_service(model, options, notifier.building) as running:
        host = Host(path, redact, hang_ups, notifier, keyring, output)
        daemon = Daemon(settings, running, host)
        try:
            daemon.run()
        finally:
            if daemon.stuck:
                logger.warning("exiting without {}", ", ".join(daemon.stuck))
                _exit_now(sys.exc_info()[1])


def _exit_now(error: BaseException | None) -> None:
    """End the process although threads run that are inside a foreign library and do not come back in time.

    Everything else has ended in order; an exit that waits for them would break the promise to stop in 5 s.
    """
    from streamd.cli import complain

    if isinstance(error, StreamdError):
        complain(str(error))
    elif error is not None:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if error is None else getattr(error, "exit_code", 1))
