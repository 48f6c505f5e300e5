"""An engine that is built in a process of its own, while this one serves.

TensorRT cannot be interrupted, and ONNX Runtime does not promise that another session may be made meanwhile. A
process can be ended at any moment; what it had half built lies in a temporary folder that nobody trusts
(`engines`). Its memory goes with it, and so does a crash inside TensorRT.

The parent sends what to build through stdin; the child answers in lines on stdout (`core/child.py`).
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

from streamd.core import child
from streamd.core.errors import StreamdError
from streamd.models.chain import Engine, build_engine
from streamd.models.contract import Graph, InputContract
from streamd.models.engines import EngineError, Tell
from streamd.models.session import RuntimeOptions

_CHILD = "from streamd.models.engine_process import main; main()"


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
                answer = child.answer_in(line)
                if answer is None:
                    chatter = line.decode(errors="replace").strip() or chatter
                    continue
                if "told" in answer:
                    tell(answer["told"])
                elif "failed" in answer:
                    raise EngineError(answer["failed"])
                else:
                    return Engine(Path(answer["folder"]), answer["built"], answer["joined"])
        raise EngineError("the build was given up" if self._killed else _end_of(process.wait(), chatter))


def _start() -> subprocess.Popen[bytes]:
    try:
        return child.start(_CHILD)
    except OSError as error:
        raise EngineError(f"no process can be started to build it: {error.strerror or error}") from error


def _end_of(code: int, chatter: str) -> str:
    """Why a child that did not say why has ended."""
    if code == -signal.SIGKILL:
        return "the process that built it was killed; most likely the machine ran out of memory"
    return f"the process that built it ended {child.ended(code)}" + (f": {chatter}" if chatter else "")


def main() -> None:
    """The child: reads what to build, builds it, and says how it went."""
    child.begin()
    _go_first_when_memory_runs_out()
    model, graph, options, contract = pickle.load(sys.stdin.buffer)  # nosec B301  # its parent wrote it
    try:
        engine = build_engine(model, graph, options, lambda text: child.answer(told=text), contract)
    except StreamdError as error:
        child.answer(failed=str(error))
    else:
        child.answer(folder=str(engine.folder), built=engine.built, joined=engine.joined)


def _go_first_when_memory_runs_out() -> None:
    # No lower priority, though: on a box whose cores are busy with what serves meanwhile, it would starve, and
    # the engine is what relieves that box.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
