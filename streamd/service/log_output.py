"""Writes the log's lines: never waits for whoever reads them, never fails, never floods."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading

from streamd.core.timing import NS_PER_MS, NS_PER_S, now_ns

LINES_PER_S = 10
"""More than that in the long run are left out, beyond BURST lines at once: 64 cameras may all go and come."""
BURST = 1000
_PATIENCE_MS = 100  # for a reader that is just busy; one that was too slow is not waited for again
_AT_ONCE = select.PIPE_BUF  # what a pipe takes whole when it says that it takes anything
_TOLD_AGAIN_NS = 60 * NS_PER_S


class LogOutput:
    """A descriptor for log lines, stderr's as a rule. Any thread may call; one that does waits 0.1 s at most.

    Lines that cannot be written (a full disk, a reader that stands still or is gone) are counted, and so are those
    beyond LINES_PER_S. Errors, and what debugging asked for, are never too many.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()  # guards all below, and keeps lines whole
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._room = float(BURST)
        self._filled_ns = now_ns()
        self._failure: str | None = None
        self._told_ns: int | None = None
        self._untold = 0
        self._flood_untold = 0
        self.unwritable = 0
        """Lines lost because they could not be written, since the start."""
        self.flood = 0
        """Lines left out because there were too many, since the start."""

    def write(self, text: str, *, level: int) -> None:
        """Write a text that ends its line, or count it. level: its weight, as the library of `logging` has it."""
        with self._lock:
            if logging.DEBUG < level <= logging.WARNING and not self._takes_room():
                self.flood += 1
                self._flood_untold += 1
                return
            self._failure = self._put(text.encode(errors="backslashreplace"))
            if self._failure is not None:
                self.unwritable += 1
                self._untold += 1

    def trouble(self) -> str | None:
        """Once a minute at most: that lines could not be written, and why; None when there is nothing new."""
        with self._lock:
            now = now_ns()
            if not self._untold or (self._told_ns is not None and now - self._told_ns < _TOLD_AGAIN_NS):
                return None
            count, self._untold, self._told_ns = self._untold, 0, now
            why = self._failure or "they can be again"
            return f"the log: {count} lines could not be written ({why}); make room, or mend who reads it"

    def left_out(self) -> int:
        """How many lines were too many since the last call; 0 while they still are."""
        with self._lock:
            self._fill()
            if self._room < LINES_PER_S:
                return 0
            count, self._flood_untold = self._flood_untold, 0
            return count

    def _fill(self) -> None:
        now = now_ns()
        self._room = min(float(BURST), self._room + (now - self._filled_ns) * LINES_PER_S / NS_PER_S)
        self._filled_ns = now

    def _takes_room(self) -> bool:
        self._fill()
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _put(self, data: bytes) -> str | None:
        """Write; why it could not be, if so."""
        # After a failure each line gets its chance, but none is waited for: threads of cameras write here.
        patience_ms = _PATIENCE_MS if self._failure is None else 0
        deadline_ns = now_ns() + patience_ms * NS_PER_MS
        while data:
            try:
                left_ms = max(0, deadline_ns - now_ns()) // NS_PER_MS
                if not self._poll.poll(left_ms):
                    return "whoever reads it stands still"
                data = data[os.write(self._descriptor, data[:_AT_ONCE]) :]
            except BlockingIOError:
                return "whoever reads it stands still"
            except OSError as error:
                return (
                    "nobody reads it any more"
                    if error.errno == errno.EPIPE
                    else os.strerror(error.errno or 0)
                )
        return None
