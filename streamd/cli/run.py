"""`streamd run`: the daemon."""

from __future__ import annotations

import os
import sys

from streamd.cli import options


def run(config: options.Config) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Example: streamd run -c /etc/streamd/streamd.yaml
    """
    from loguru import logger

    from streamd.core.secrets import Redactor
    from streamd.service import loading, logging
    from streamd.service.daemon import Daemon
    from streamd.service.start import describe_configured, known_names, open_detector, runtime_options

    redact = Redactor()
    settings = loading.load(config, tables=known_names())
    redact.learn(settings.secrets())
    logging.set_up(settings.log.level, settings.log.format, redact)
    model = describe_configured(settings.model)
    with open_detector(model, runtime_options(settings.runtime, settings.batch)) as (detector, warm_ms):
        daemon = Daemon(settings, detector, warm_ms, redact)
        stuck = daemon.run()
        if stuck:
            # A thread inside a foreign library does not come back in time: everything else has ended in
            # order, and an exit that waits for it would break the promise to stop within 5 s.
            logger.warning("exiting without {}", ", ".join(stuck))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
