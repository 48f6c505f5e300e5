"""Where log lines go and what never stands in them."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

from loguru import logger

from streamd.core.secrets import Redactor

if TYPE_CHECKING:
    from loguru import Message, Record

# What libraries log through Python's own logging (libav's lines among them) is of use to a developer only.
_FOREIGN = ("libav",)


class _Forward(logging.Handler):
    """Hands records of Python's logging to loguru, at debug."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(depth=6).debug("{}: {}", record.name, record.getMessage())


def set_up(level: str, style: Literal["auto", "text", "json"], redact: Redactor) -> None:
    """Send log lines of at least `level` to stderr: text, or one JSON object a line. Call it once, early."""
    logger.remove()
    logger.configure(patcher=lambda record: _hide(record, redact))
    text = "<level>{level: <7}</level> {message}" if _journal() else _TEXT
    logger.add(
        _json_sink if style == "json" else sys.stderr,
        level=level.upper(),
        format="{message}" if style == "json" else text,
        colorize=None if style != "json" else False,
        backtrace=False,
        # Local variables in a traceback may hold a password.
        diagnose=False,
    )
    for name in _FOREIGN:
        foreign = logging.getLogger(name)
        foreign.handlers = [_Forward()]
        foreign.propagate = False
        foreign.setLevel(logging.DEBUG if level in ("debug", "trace") else logging.CRITICAL)


_TEXT = "{time:YYYY-MM-DD HH:mm:ss.SSS} <level>{level: <7}</level> {message}"


def _journal() -> bool:
    """Whether stderr goes to systemd's journal, which stamps the time itself."""
    import os

    return "JOURNAL_STREAM" in os.environ and not sys.stderr.isatty()


def _hide(record: Record, redact: Redactor) -> None:
    record["message"] = redact(record["message"])
    error = record["exception"]
    if error is not None and error.value is not None:
        # The traceback's text is made from the exception itself: show its redacted text instead.
        record["message"] += f" ({redact(f'{type(error.value).__name__}: {error.value}')})"


def _json_sink(message: Message) -> None:
    import json

    record = message.record
    line = {
        "at_us": int(record["time"].timestamp() * 1e6),
        "level": record["level"].name.lower(),
        "thread": record["thread"].name,
        "message": record["message"],
    }
    sys.stderr.write(json.dumps(line) + "\n")
