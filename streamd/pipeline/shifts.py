"""Who decodes: of files that are read as fast as they go as many as there are cores, each for a while."""

from __future__ import annotations

import socket
import threading
from collections import deque
from types import TracebackType

from streamd.core.cores import usable_cores
from streamd.core.timing import now_ns

_WHILE_NS = 50_000_000
"""A dozen pictures of 1080p. Shorter ones lose what they are for; 100 and 200 ms bring no more."""
_PATIENCE_S = 1.0


class Shifts:
    """Gives cores to decoders that never wait for a camera; made for as many as this process may use.

    A decoder that goes on for some pictures finds those it predicts from in the caches, and hardly anybody who
    wants the interpreter's lock when it comes out of libav. Left to the kernel, eight of them change in the middle of
    a picture, and queue for the lock around every short call on one (`python -m tests.support.decode_race`).
    """

    def __init__(self, places: int | None = None) -> None:
        self._places = places or usable_cores()
        self._lock = threading.Lock()  # guards all below
        self._working: set[Shift] = set()
        self._waiting: deque[Shift] = deque()
        self._admitted = 0
        """How many times somebody was let in."""

    def next(self) -> Shift:
        """For one more decoder. Any thread."""
        return Shift(self)

    def _admit(self) -> None:
        """Let in who has waited longest, as many as there are places. Under the lock."""
        while self._waiting and len(self._working) < self._places:
            shift = self._waiting.popleft()
            self._working.add(shift)
            self._admitted += 1
            shift._ring()

    def _give_up_on_all_at_work(self) -> None:
        """Their sources hang, a file on a lost network drive: they do not use their cores. Under the lock."""
        self._working.clear()
        self._admit()


class Shift:
    """One decoder's: as a context while it works, `end` and `begin` around its waiting. For one thread."""

    def __init__(self, shifts: Shifts) -> None:
        self._shifts = shifts
        self._ends_ns = 0
        self._bell: tuple[socket.socket, socket.socket] | None = None

    def begin(self) -> None:
        """Block until there is a core for it, in the order of asking, or until for a second nobody has made way."""
        if self._bell is None:
            return
        shifts = self._shifts
        with shifts._lock:
            shifts._waiting.append(self)
            shifts._admit()
        self._await(self._bell[0])
        self._ends_ns = now_ns() + _WHILE_NS

    def end(self) -> None:
        """Make way. Never blocks."""
        shifts = self._shifts
        with shifts._lock:
            shifts._working.discard(self)
            shifts._admit()

    def go_on(self) -> None:
        """Between two pictures: make way, and wait, once the while is over and others wait."""
        now = now_ns()
        if now < self._ends_ns:
            return
        if self._shifts._waiting or self not in self._shifts._working:
            self.end()
            self.begin()
        else:
            self._ends_ns = now + _WHILE_NS

    def _await(self, bell: socket.socket) -> None:
        shifts, admitted = self._shifts, -1
        while True:
            try:
                bell.recv(1)
                return
            except TimeoutError:
                with shifts._lock:
                    if shifts._admitted == admitted:
                        shifts._give_up_on_all_at_work()
                    admitted = shifts._admitted

    def _ring(self) -> None:
        # The kernel takes who writes to a socket for about to sleep, and lets the one that is woken run on its core.
        # Woken through a lock it often queues behind the other decoder, for a millisecond, beside an idle core.
        if self._bell is not None:
            self._bell[1].send(b"\0")

    def __enter__(self) -> Shift:
        try:
            self._bell = socket.socketpair()
        except OSError:
            self._bell = None  # no more can be opened: it works, and waits for nobody
        else:
            self._bell[0].settimeout(_PATIENCE_S / 2)
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        for end in self._bell or ():
            end.close()
