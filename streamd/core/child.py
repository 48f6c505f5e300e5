"""A process of our own that does what may hang or crash, and tells its parent in lines on stdout.

An answer is a line that begins with a mark. All other lines are the chatter of libraries, and the last of them
explains an end that the child did not explain.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import Any

_MARK = b"\x1estreamd "
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def start(code: str) -> subprocess.Popen[bytes]:
    """Start Python on `code`, with the same modules as here; stdin and stdout are pipes. Raises OSError.

    The first argument is this process's id, for `begin`.
    """
    # The same modules, from wherever they were imported; -P: and none from the current folder.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(  # nosec B603  # our own interpreter and words
        [sys.executable, "-P", "-c", code, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
    )


def begin() -> None:
    """In the child, first of all: it ends with its parent, and by nothing else that a terminal or systemd sends.

    A Ctrl-C or a stop of the whole service reaches the child as well, but it is the parent that ends it: else what it
    does would seem to have failed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        # The kernel looks at the thread that started this process: it has to stay until the child's end.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[1]):
            os._exit(1)


def answer(**fields: Any) -> None:
    """In the child: tell the parent. Raises OSError when it has gone."""
    line = _MARK + json.dumps(fields).encode() + b"\n"
    # One write, so that no library's chatter comes in between; and a line of its own, whatever stands before it.
    os.write(1, b"\n" + line)


def answer_in(line: bytes) -> dict[str, Any] | None:
    """What the child told in this line; None for chatter."""
    if not line.startswith(_MARK):
        return None
    told: dict[str, Any] = json.loads(line.removeprefix(_MARK))
    return told


def ended(code: int) -> str:
    """`by SIGSEGV` or `with code 3`."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
