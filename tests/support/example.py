"""The programs of examples/ as processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
# Refuses every foreign library but those that are named, as where only these are installed.
_WITH_ONLY = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {{*sys.stdlib_module_names, "streamd", *{libraries!r}}}:
            raise ModuleNotFoundError(f"no module named {{name!r}} here", name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(
    program: str, *arguments: object, libraries: tuple[str, ...] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start an example and leave it running; with `libraries` it can import no other foreign ones."""
    wrapper = () if libraries is None else ("-c", _WITH_ONLY.format(libraries=libraries))
    return subprocess.Popen(
        [sys.executable, *wrapper, str(EXAMPLES / program), *map(str, arguments)],
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def end(process: subprocess.Popen[str], number: int | None = signal.SIGINT) -> tuple[int, str, str]:
    """Send a signal, or none, and wait; the exit code, what stands on stdout and on stderr."""
    if number is not None:
        process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out or "", err or ""
