"""libav's own log lines: never on stderr; to whoever asks for them, one line each, without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable

import av.logging

from streamd.sources.address import scrub


class _Forward(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(level=logging.DEBUG)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(scrub(f"{record.name}: {record.getMessage()}", ()))


def forward(write: Callable[[str], None] | None) -> None:
    """Hand libav's warnings and errors to `write`, or with None drop them (as is so from the start).

    For the whole process: libav has one log. `write` is called from any decoding thread, holding the GIL;
    each line costs about 10 us there, so this is for debugging.
    """
    logger = logging.getLogger("libav")
    for handler in list(logger.handlers):
        if isinstance(handler, _Forward):
            logger.removeHandler(handler)
    logger.propagate = False
    if write is None:
        av.logging.set_level(None)
        return
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_Forward(write))
    av.logging.set_level(av.logging.WARNING)
