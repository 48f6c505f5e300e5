"""The threads of the process: named, joined, and a crash in one of them stops all."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType

from streamd.core.timing import Deadline


class Crew:
    """Starts threads, keeps the first failure, and joins them under one deadline.

    `stop` is the one event that asks everything to end. `wait` returns whenever a thread ends or somebody
    nudges, so that the main thread has one thing to wait on.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        # No event: a signal handler that sets one dead-locks with the main thread that waits on it.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        self.failed_thread: str | None = None
        self._lock = threading.Lock()  # guards `_threads`, `failure` and `failed_thread`
        self._threads: dict[str, threading.Thread] = {}

    def start(self, name: str, target: Callable[[], object]) -> None:
        """Run `target` in a thread of this name; the name must be free."""
        thread = threading.Thread(target=self._run, args=(name, target), name=name)
        with self._lock:
            if name in self._threads:
                raise ValueError(f"a thread named {name} is running")
            # Registered before it starts: a join can not miss it.
            self._threads[name] = thread
        thread.start()

    def ask_stop(self) -> None:
        """Set `stop` and wake the main thread. Any thread, but no signal handler: see `nudge`."""
        self.stop.set()
        self.nudge()

    def nudge(self) -> None:
        """Make `wait` return. Any thread, and the one thing that a signal handler may call."""
        self._news.put(None)

    def wait(self, timeout_s: float) -> None:
        """Block until there is news, at most `timeout_s`. For the main thread."""
        with contextlib.suppress(queue.Empty):
            self._news.get(timeout=timeout_s)

    def running(self, prefix: str = "") -> list[str]:
        """Names of the threads that have not ended and start with `prefix`."""
        with self._lock:
            return [name for name in self._threads if name.startswith(prefix)]

    def join(self, prefix: str, deadline: Deadline) -> bool:
        """Wait for the threads whose name starts with `prefix`; False when the deadline came first."""
        with self._lock:
            threads = [thread for name, thread in self._threads.items() if name.startswith(prefix)]
        for thread in threads:
            thread.join(deadline.left_s())
        return not any(thread.is_alive() for thread in threads)

    def _run(self, name: str, target: Callable[[], object]) -> None:
        try:
            target()
        except Exception as error:  # noqa: BLE001 - the one place: any crash must end the process, in order
            with self._lock:
                if self.failure is None:
                    self.failure, self.failed_thread = error, name
            self.stop.set()
        finally:
            with self._lock:
                self._threads.pop(name, None)
            self.nudge()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A safety net for whoever leaves without joining: threads are not daemons and would hold the exit.
        self.ask_stop()
