"""The live picture of `streamd top`: messages in, keys in, a table out."""

from __future__ import annotations

import itertools
import os
import signal
import time
from threading import Event

from rich.console import ConsoleDimensions
from rich.live import Live

from streamd.bus.client import Messages
from streamd.cli.console import console
from streamd.cli.terminal import Keys
from streamd.cli.top_table import ORDERS, screen
from streamd.core.errors import StreamdError
from streamd.core.timing import Deadline
from streamd.service.overview import Watch
from streamd.service.scrape import Source

_TURN_S = 0.1  # how soon a key, or a stop, is seen
_DRAWN_S = 0.5


class TopScreen:
    """Fills the terminal until `q` or a stop, and gives it back as it was. For the main thread."""

    def __init__(self, feed: Messages, watch: Watch, source: Source, keys: Keys) -> None:
        self._feed = feed
        self._watch = watch
        self._source = source
        self._keys = keys
        self._console = console()
        self._orders = itertools.cycle(ORDERS)
        self._order = next(self._orders)
        self._suspended = False

    def run(self, stop: Event, timeout_s: float | None, ask: str) -> None:
        """Raises StreamdError when nothing came for `timeout_s` or the daemon refuses, OSError without a terminal."""
        before = signal.signal(signal.SIGTSTP, self._on_suspend)
        try:
            # What Live would redraw with is a thread of its own.
            with self._keys, Live(console=self._console, screen=True, auto_refresh=False) as live:
                self._turn_until(stop, live, timeout_s, ask)
        finally:
            signal.signal(signal.SIGTSTP, before)

    def _turn_until(self, stop: Event, live: Live, timeout_s: float | None, ask: str) -> None:
        heard, drawn = time.monotonic(), 0.0
        while not stop.is_set():
            pressed = self._keys.pressed()
            if "q" in pressed:
                return
            for _ in range(pressed.count("s")):
                self._order = next(self._orders)
            if self._suspended:
                self._suspend(live)
            if pressed or time.monotonic() - drawn >= _DRAWN_S:
                self._draw(live)
                drawn = time.monotonic()
            if self._take():
                heard = time.monotonic()
            elif timeout_s is not None and time.monotonic() - heard > timeout_s:
                why = self._feed.hint or f"; {ask}"
                raise StreamdError(f"{self._feed.endpoint}: no message within {timeout_s:g} s{why}")

    def _take(self) -> bool:
        """What comes within a turn; whether something did."""
        turn, came = Deadline(_TURN_S), False
        while (left_s := turn.left_s()) > 0:
            try:
                topic, body = self._feed.within(left_s)
            except TimeoutError:
                break
            self._watch.take(topic, body)
            came = True
        return came

    def _draw(self, live: Live) -> None:
        # Not what the environment said of the terminal when this began: it may have another size by now.
        size = os.get_terminal_size(1)
        self._console.size = ConsoleDimensions(size.columns, size.lines)
        footer = f"s: sort (now by {self._order})   q: quit"
        found = self._watch.overview(self._source.latest())
        live.update(screen(found, self._order, size.columns, size.lines, footer), refresh=True)

    def _on_suspend(self, number: int, frame: object) -> None:
        self._suspended = True

    def _suspend(self, live: Live) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and `fg` brings the picture back."""
        self._suspended = False
        live.stop()
        self._keys.restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._keys.__enter__()
        live.start()
