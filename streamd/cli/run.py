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
    from streamd.core.secrets import Redactor
    from streamd.service.config import Config


def run(config: options.Config) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Example: streamd run -c /etc/streamd/streamd.yaml
    """
    from loguru import logger

    from streamd.core.secrets import Redactor
    from streamd.service import loading, logging, signals
    from streamd.service.configured import known_names

    with signals.leaving_at_once():
        redact = Redactor()
        settings = loading.load(config, tables=known_names())
        redact.learn(settings.secrets())
        logging.set_up(settings.log.level, settings.log.format, redact)
        try:
            _serve(settings, redact)
        except StreamdError as error:
            if settings.log.format != "json":
                raise
            # Whoever reads the log as JSON finds the end there too.
            logger.error("{}", error)
            raise typer.Exit(error.exit_code) from None


def _serve(settings: Config, redact: Redactor) -> None:
    from loguru import logger

    from streamd.service.configured import describe_configured, runtime_options
    from streamd.service.daemon import Daemon
    from streamd.service.inspection import exposures, keyring_of
    from streamd.service.start import build_detector

    for line in exposures(settings):
        logger.warning("{}", line)
    # Before the model, which may take minutes: a wrong key file is told of at once.
    keyring = keyring_of(settings)
    if keyring is not None:
        redact.learn({keyring.server.secret})
        for line in keyring.notes:
            logger.warning("{}", line)
    model = describe_configured(settings.model)
    with build_detector(model, runtime_options(settings.runtime, settings.batch)) as (detector, warm_ms):
        daemon = Daemon(settings, detector, warm_ms, redact, keyring)
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
