"""Colours are for terminals that know them, and for nobody who refuses them: in what is shown, and in the log."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loguru import logger

import streamd
from streamd.cli.console import console
from streamd.cli.doctor import _show
from streamd.core.secrets import Redactor
from streamd.service import logging

PACKAGE = Path(streamd.__file__).parent
PLAIN = {**os.environ, "TERM": "xterm"}
for _name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
    PLAIN.pop(_name, None)


def _log() -> None:
    logging.set_up("warning", "auto", Redactor([]))
    logger.warning("shown")
    logger.remove()


WAYS = {
    "table": lambda: console().print("[red]shown[/red]"),
    "bar": lambda: console(stderr=True).print("[red]shown[/red]"),
    "doctor": lambda: _show("wrong", "shown", "", ""),
    "log": _log,
}


@pytest.mark.parametrize("show", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
    ids=str,
)
def test_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], coloured: bool, show: Callable[[], None]
) -> None:
    monkeypatch.setattr(os, "environ", {**PLAIN, **environ})
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
            show()
        terminal.flush()
        seen = b""
        while b"shown" not in seen:
            seen += os.read(ours, 4096)
    os.close(ours)
    assert (b"\x1b[3" in seen) == coloured, seen


@pytest.mark.parametrize("show", WAYS.values(), ids=WAYS)
def test_not_in_a_pipe_whoever_forces_them(monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> None:
    """CI systems set FORCE_COLOR for all that they run, and then compare what was written."""
    monkeypatch.setattr(os, "environ", {**PLAIN, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
    pipe = io.StringIO()
    with contextlib.redirect_stdout(pipe), contextlib.redirect_stderr(pipe):
        show()
    assert "shown" in pipe.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_not_where_there_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    console().print("[red]shown[/red]")


def test_one_place_decides() -> None:
    decide = ("NO_COLOR", "FORCE_COLOR", "Console(")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(word in path.read_text() for word in decide)
    }
    assert found == {"core/colours.py", "cli/console.py"}
