"""`streamd` as a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(*arguments: object, timeout_s: float = 100, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; stdout and stderr are text."""
    if "preexec_fn" in options and "env" not in options:
        # What limits the command would keep a measured one from writing what it has measured.
        options["env"] = {
            name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
        }
    return subprocess.run(
        [sys.executable, "-m", "streamd", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        **options,
    )


def run_inline(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: the same code, without the second that a new interpreter takes."""
    from streamd.cli import main

    out, err = io.StringIO(), io.StringIO()
    words = ["streamd", *map(str, arguments)]
    before = sys.argv
    sys.argv = words
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a command and leave it running."""
    return subprocess.Popen(
        [sys.executable, "-m", "streamd", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, each of which must be whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def fails(result: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """Assert the exit code, and one clear line on stderr that holds all `words`; returns the line."""
    assert result.returncode == code, (result.returncode, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("streamd: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0], (word, lines[0])
    return lines[0]
