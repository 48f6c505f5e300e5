"""How a command is stopped: by SIGINT or SIGTERM, at any moment after its verb was understood."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import typer


class Stop:
    """The first signal asks for an orderly end, the second one exits at once with 130.

    Before `begin` there is nothing to end in order, and what is going on (importing, loading a model) looks at
    no flag: the first signal interrupts it. Used with `with`, in the main thread.
    """

    def __init__(self, *also: signal.Signals, restore: Callable[[], object] = lambda: None) -> None:
        """also: further signals that ask for the end; restore: is called before an exit at once."""
        self._signals = (signal.SIGINT, signal.SIGTERM, *also)
        self._restore = restore
        self.event = threading.Event()
        self.signal: int | None = None
        """The signal that came."""
        self._begun = False
        self._before: dict[int, Any] = {}

    def begin(self) -> None:
        """From here on the run looks at `event`. Raises KeyboardInterrupt when a signal has come by now."""
        self._begun = True
        if self.event.is_set():
            raise KeyboardInterrupt

    def __enter__(self) -> Stop:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in self._signals
            # Under nohup a closed connection is to end nothing.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.signal is not None and (kind is KeyboardInterrupt or (kind is not None and not self._begun)):
            # Whatever this is, the signal brought it: a library that is interrupted while it is imported
            # makes an ImportError of it.
            raise typer.Exit(128 + self.signal) from error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            self._restore()
            os._exit(130)
        self.signal = number
        self.event.set()
        if not self._begun:
            raise KeyboardInterrupt
