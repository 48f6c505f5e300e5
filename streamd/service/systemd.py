"""What the daemon tells systemd: readiness, status, progress (sd_notify(3)). Without systemd it tells nobody."""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from streamd.core.timing import now_ns

_EXTEND_US = 30_000_000
"""Each time an engine's build shows that it goes on, systemd waits this much longer."""
_EXTEND_RELOAD_US = 10_000_000
"""The same for a reload. systemd puts off the watchdog as well: so not longer than any watchdog worth setting."""
_LONGEST_BUILD_NS = 2 * 3600 * 1_000_000_000
"""An engine that is not there after two hours hangs: from then on the unit's start time-out counts."""
_LONGEST_TEXT = 500
"""systemd drops a message above 4096 bytes; no letter has more than 4."""
_OWED = 8


class Notifier:
    """Sends to the socket that systemd names in the environment. For the main thread.

    No call blocks or raises, whatever is wrong with the socket. A state change that does not get through (systemd
    is busy and its queue full) is sent again with the next message.
    """

    def __init__(self, environ: Mapping[str, str], redact: Callable[[str], str] = lambda text: text) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._redact = redact
        self._watched = _watchdog_asked(environ)
        self._fed_ns = now_ns()
        self._reloading = False
        self._text = ""
        self._remarks: dict[str, str] = {}
        self._owed: deque[str] = deque(maxlen=_OWED)

    def ready(self, status: str | None = None) -> None:
        """Started up, or done with reloading."""
        self._reloading = False
        self._tell("READY=1", status)

    def reloading(self, status: str | None = None) -> None:
        """A reload begins; `ready` ends it, also when it was refused."""
        self._reloading = True
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now_ns() // 1000}", status)

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", "stopping")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; secrets are hidden."""
        self._text = text
        self._send(self._status_line())

    def remark(self, about: str, text: str | None) -> None:
        """Something that stays at the end of every status until the next remark about the same."""
        if text is None:
            self._remarks.pop(about, None)
        else:
            self._remarks[about] = text
        self.status(self._text)

    def progress(self, beats_ns: Iterable[int]) -> None:
        """Feed the watchdog, and let a reload take longer, when each thread has turned since this was done last.

        beats_ns: monotonic times of the threads' last turns. So no feed stands for anything but progress, and
        systemd acts WatchdogSec= after the first of them stopped turning.
        """
        if not all(beat_ns > self._fed_ns for beat_ns in beats_ns):
            return
        self._fed_ns = now_ns()
        feed = ["WATCHDOG=1"] if self._watched else []
        if self._reloading:
            feed.append(f"EXTEND_TIMEOUT_USEC={_EXTEND_RELOAD_US}")
        if feed:
            self._send("\n".join(feed))

    def building(self, since_ns: int, text: str) -> None:
        """Starting takes longer: an engine is built since this monotonic time."""
        passed_ns = now_ns() - since_ns
        self.status(f"{text} ({passed_ns // 1_000_000_000} s)")
        if passed_ns < _LONGEST_BUILD_NS:
            self._send(f"EXTEND_TIMEOUT_USEC={_EXTEND_US}")

    def _tell(self, state: str, status: str | None) -> None:
        if status is not None:
            self._text = status
        message = f"{state}\n{self._status_line()}"
        if not self._send(message):
            self._owed.append(message)

    def _status_line(self) -> str:
        parts = (self._text, *self._remarks.values())
        text = self._redact("; ".join(part for part in parts if part))
        # A line break would begin another field of the protocol.
        return "STATUS=" + re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:_LONGEST_TEXT]

    def _send(self, message: str) -> bool:
        """Whether nothing is owed any more: what was owed goes first, so the order stays."""
        while self._owed:
            if not self._send_now(self._owed[0]):
                return False
            self._owed.popleft()
        return self._send_now(message)

    def _send_now(self, message: str) -> bool:
        """False when it is worth to try again."""
        if self._address is None:
            return True
        try:
            # A new one each time, some a second at most: nothing to close, and systemd may have begun anew.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            return False
        return True


def _address(text: str) -> bytes | None:
    """The socket's address: a path, or a name after `@`; None for anything else."""
    if len(text) < 2 or text[0] not in "/@":
        return None
    raw = os.fsencode(text)
    return b"\0" + raw[1:] if text[0] == "@" else raw


def _watchdog_asked(environ: Mapping[str, str]) -> bool:
    """Whether systemd expects this very process to show progress; how often is the unit's matter."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if re.fullmatch(r"[0-9]{1,20}", usec) is None or not int(usec):
        return False
    return pid is None or pid == str(os.getpid())
