"""Keys as they are pressed, on a terminal that is as it was before when all is over."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any

_SHOW_CURSOR_AND_LEAVE = b"\x1b[?25h\x1b[?1049l"


class Keys:
    """Reads single keys of stdin, without echo; restores the terminal in `__exit__`. For one thread."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._before: list[Any] | None = None

    def __enter__(self) -> Keys:
        before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor, termios.TCSANOW)
        self._before = before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def pressed(self) -> str:
        """The keys pressed since the last call, "" for none; never blocks. "q" when the terminal has gone."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            return ""
        try:
            return os.read(self._descriptor, 64).decode("ascii", "replace") or "q"
        except OSError:
            return "q"

    def restore(self) -> None:
        """Set the terminal back; does not wait for what is still to be shown. Any number of times."""
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)

    def abandon(self) -> None:
        """For an exit at once, when nothing else is done any more: the picture as well, if it can be had."""
        self.restore()
        # The terminal may be what everything waits for (Ctrl-S).
        if self._before is not None and select.select([], [1], [], 0)[1]:
            with contextlib.suppress(OSError):
                os.write(1, _SHOW_CURSOR_AND_LEAVE)
