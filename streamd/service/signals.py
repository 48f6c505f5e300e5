"""What signals come to: SIGINT and SIGTERM an end in order, and at the second one an end at once; SIGHUP a reload."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_ENDING = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = 130


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """While nothing is bound or written yet, a signal just ends the process, with 0: stopped as asked."""
    with _handled(lambda number, frame: os._exit(0)):
        yield


class HangUps:
    """SIGHUP asks for a reload, from `seen` on: without a handler it would end the process."""

    def __init__(self) -> None:
        self._asked = False
        self.nudge: Callable[[], None] = lambda: None
        """Called in the signal handler: it must take no lock."""

    def taken(self) -> bool:
        """Whether one has come since the last time this was asked."""
        asked, self._asked = self._asked, False
        return asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self.nudge()

    @contextmanager
    def seen(self) -> Iterator[Self]:
        """While this block runs the signal is taken; after it as before."""
        with _handled(self._handle, (signal.SIGHUP,)):
            yield self


class StopSignals:
    """`asked` tells whether somebody wants the end; a second signal ends the process at once with 130.

    In another than the main thread no signal is seen.
    """

    def __init__(self, nudge: Callable[[], None]) -> None:
        self.asked = False
        self._nudge = nudge
        self._handling = _handled(self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Between any two steps of the main thread, which may hold any lock: so none is taken here.
        if self.asked:
            os._exit(_AT_ONCE)
        self.asked = True
        self._nudge()

    def __enter__(self) -> Self:
        self._handling.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handling.__exit__(kind, error, trace)


@contextmanager
def _handled(
    handle: Callable[[int, FrameType | None], None], numbers: tuple[signal.Signals, ...] = _ENDING
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
