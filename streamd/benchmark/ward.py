"""`python -m streamd.benchmark.ward -c FILE`: a daemon that ends with whoever started it, however that ended.

A measured daemon plays its clips in a loop: left behind by a benchmark that was killed, it would do so for ever.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # No thread of the crew, and not joined: nothing can interrupt its wait for the end of another process.
    threading.Thread(target=_end_with_stdin, name="ward", daemon=True).start()
    sys.argv = ["streamd", "run", *sys.argv[1:]]
    runpy.run_module("streamd", run_name="__main__")
