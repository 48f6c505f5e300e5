"""Where log lines go and what never stands in them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from loguru import logger

from streamd.core.colours import coloured
from streamd.core.secrets import Redactor
from streamd.service.log_output import LogOutput

if TYPE_CHECKING:
    from loguru import Message, Record


def set_up(
    level: str,
    style: Literal["auto", "text", "json"],
    redact: Redactor,
    output: LogOutput | None = None,
) -> None:
    """Send log lines of at least `level` to stderr: text, or one JSON object a line. Call it early.

    output: what writes them where nobody may wait for that; None: `sys.stderr`, whatever it is at the time.
    """
    logger.remove()
    logger.configure(patcher=lambda record: _hide(record, redact))
    text = "<level>{level: <7}</level> {message}" if _journal() else _TEXT
    logger.add(
        _sink(style, output),
        level=level.upper(),
        format="{message}" if style == "json" else text,
        colorize=style != "json" and coloured(sys.stderr),
        backtrace=False,
        # Local variables in a traceback may hold a password.
        diagnose=False,
    )
    if level in ("debug", "trace"):
        from streamd.sources.libav.chatter import forward

        # A line of libav's may hold an address with its password: it is hidden like in any other line.
        forward(lambda line: logger.debug("{}", line))


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


def _sink(style: str, output: LogOutput | None) -> Callable[[Message], None]:
    def write(message: Message) -> None:
        text = _as_json(message) if style == "json" else str(message)
        if output is None:
            sys.stderr.write(text)
        else:
            output.write(text, level=message.record["level"].no)

    return write


def _as_json(message: Message) -> str:
    import json

    record = message.record
    line = {
        "at_us": int(record["time"].timestamp() * 1e6),
        "level": record["level"].name.lower(),
        "thread": record["thread"].name,
        "message": record["message"],
    }
    return json.dumps(line) + "\n"
