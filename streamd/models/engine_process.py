"""An engine that is built in a process of its own, while this one serves.

TensorRT cannot be interrupted, and ONNX Runtime does not promise that another session may be made meanwhile. A
process can be ended at any moment; what it had half built lies in a temporary folder that nobody trusts
(`engines`). Its memory goes with it, and so does a crash inside TensorRT.

The parent sends what to build through stdin; the child answers in lines on stdout that begin with a mark. All
other lines are the chatter of libraries, and the last of them explains an end that the child did not explain.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from streamd.core.errors import StreamdError
from streamd.models.chain import Engine, build_engine
from streamd.models.contract import Graph, InputContract
from streamd.models.engines import EngineError, Tell
from streamd.models.session import RuntimeOptions

_MARK = b"\x1estreamd "
_CHILD = "from streamd.models.engine_process import main; main()"
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class EngineProcess:
    """One build. `run` in one thread, `kill` in any other."""

    def __init__(
        self, model: Path, graph: Graph, options: RuntimeOptions, contract: InputContract | None
    ) -> None:
        """As for `build_engine`."""
        self._order = (model, graph, options, contract)
        self._lock = (
            threading.Lock()
        )  # guards the two below: a child that was not started yet must not be later
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(self, tell: Tell) -> Engine:
        """Have the engine built, unless the cache holds it. `tell` as in `build_engine`.

        Blocks for minutes; the thread must not end before it.

        Raises EngineError, with the reason, when there is none to be had: also after `kill`.
        """
        with self._lock:
            if self._killed:
                raise EngineError("the build was given up")
            process = self._process = _start()
        try:
            return self._follow(process, tell)
        finally:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the build at once, whatever it is doing; `run` comes back then. Never blocks."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def _follow(self, process: subprocess.Popen[bytes], tell: Tell) -> Engine:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdout as answers:
            # A child that could not even begin says so in its answers.
            with contextlib.suppress(BrokenPipeError), process.stdin as order:
                order.write(pickle.dumps(self._order))
            chatter = ""
            for line in answers:
                if not line.startswith(_MARK):
                    chatter = line.decode(errors="replace").strip() or chatter
                    continue
                answer = json.loads(line.removeprefix(_MARK))
                if "told" in answer:
                    tell(answer["told"])
                elif "failed" in answer:
                    raise EngineError(answer["failed"])
                else:
                    return Engine(Path(answer["folder"]), answer["built"], answer["joined"])
        raise EngineError("the build was given up" if self._killed else _end_of(process.wait(), chatter))


def _start() -> subprocess.Popen[bytes]:
    # The same modules as here, from wherever they were imported; -P: and none from the current folder.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        return subprocess.Popen(  # nosec B603  # our own interpreter and words
            [sys.executable, "-P", "-c", _CHILD, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
        )
    except OSError as error:
        raise EngineError(f"no process can be started to build it: {error.strerror or error}") from error


def _end_of(code: int, chatter: str) -> str:
    """Why a child that did not say why has ended."""
    if code == -signal.SIGKILL:
        return "the process that built it was killed; most likely the machine ran out of memory"
    ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return f"the process that built it ended {ended}" + (f": {chatter}" if chatter else "")


def main() -> None:
    """The child: reads what to build, builds it, and says how it went."""
    # A Ctrl-C or a stop of the whole service reaches the child as well, but it is the parent that ends it: else
    # the build would seem to have failed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_with(int(sys.argv[1]))
    _go_first_when_memory_runs_out()
    model, graph, options, contract = pickle.load(sys.stdin.buffer)  # nosec B301  # its parent wrote it
    try:
        engine = build_engine(model, graph, options, lambda text: _answer(told=text), contract)
    except StreamdError as error:
        _answer(failed=str(error))
    else:
        _answer(folder=str(engine.folder), built=engine.built, joined=engine.joined)


def _answer(**fields: Any) -> None:
    line = _MARK + json.dumps(fields).encode() + b"\n"
    # One write, so that no library's chatter comes in between; and a line of its own, whatever stands before it.
    os.write(1, b"\n" + line)


def _end_with(parent: int) -> None:
    """A killed parent must not leave a build behind that nobody asked for. Linux only.

    The kernel looks at the thread that started this process: it has to stay until the end of the build.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _go_first_when_memory_runs_out() -> None:
    # No lower priority, though: on a box whose cores are busy with what serves meanwhile, it would starve, and
    # the engine is what relieves that box.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
