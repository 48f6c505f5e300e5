"""The subscriber of a soak: reads all that the daemon sends, and checks each message."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamd.bus.client import Messages
from streamd.core.errors import Reason
from tests.support.number_model import number_of
from tests.support.witness import Witness

NEW_CONNECTION_S = 2.0
"""From the start of an attempt to its first result, besides the wait for a keyframe."""
LONGEST_BACKOFF_S = 36.0
_POLL_S = 0.5
_PROBLEMS_KEPT = 200
_WAITS_KEPT = 100_000
_OLDEST_MS = 10_000
_REASONS = {str(reason) for reason in Reason}
_OF_TIME = {"event", "picture", "disturbed", "return"}
_STANDSTILL_TELLS_S = 30.0  # two samples, and the time until a stream is called stalled or lost
_OF_FLAPPING = {"connecting", "live", "stalled", "lost"}
_OF_STEADY = {"connecting", "live"}


class Problems:
    """What is wrong: counted by kind, the first ones kept word for word. Any thread may add.

    What depends on time is no problem of the daemon's while the whole machine stood still: it is counted apart.
    """

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._lock = threading.Lock()  # guards all below
        self.counts: Counter[str] = Counter()
        self.at_standstills: Counter[str] = Counter()
        self.lines: list[str] = []

    def add(self, kind: str, line: str) -> None:
        """One more of this kind."""
        excused = kind in _OF_TIME and self._witness.within(_STANDSTILL_TELLS_S)
        with self._lock:
            (self.at_standstills if excused else self.counts)[kind] += 1
            if len(self.lines) < _PROBLEMS_KEPT:
                self.lines.append(f"{kind}{' (the machine stood still)' if excused else ''}: {line}")


@dataclass
class Ages:
    """How old results were when they were published, in whole milliseconds; bounded, however many."""

    counts: list[int] = field(default_factory=lambda: [0] * (_OLDEST_MS + 1))

    def add(self, age_ms: float) -> None:
        """One more result."""
        self.counts[min(_OLDEST_MS, max(0, int(age_ms)))] += 1

    def quantile_ms(self, share: float) -> int | None:
        """The age that this share of the results does not exceed."""
        left = share * sum(self.counts)
        if not left:
            return None
        for age_ms, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return age_ms
        return _OLDEST_MS


@dataclass
class Seen:
    """One stream as the subscriber sees it."""

    flapping: bool
    results: int = 0
    last: Mapping[str, Any] | None = None
    last_number: int = 0
    returned_us: int = 0
    waiting: bool = False
    """Its camera is back and no result has come yet."""
    connecting_us: int = 0
    missing: int = 0
    """Pictures of the camera that the daemon does not count as decoded."""
    returns: int = 0
    unseen_returns: int = 0
    """Times that the camera was killed again before the next attempt."""
    waits_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WAITS_KEPT))
    """From the camera's return to its first result."""
    attempts_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WAITS_KEPT))
    """From the start of the attempt that succeeded to its first result."""


class Watch:
    """Checks what comes; `run` is the body of its thread, `returned` may be called by any other.

    clip_frames: pictures after which the drawn numbers begin again. keyframe_s: between two keyframes.
    """

    def __init__(
        self,
        streams: Collection[str],
        flapping: Collection[str],
        *,
        clip_frames: int,
        keyframe_s: float,
        max_age_ms: float,
        problems: Problems,
    ) -> None:
        self.streams = {name: Seen(name in flapping) for name in streams}
        self.ages = {"steady": Ages(), "flapping": Ages()}
        self.events: Counter[str] = Counter()
        self.statuses = 0
        self.status_age_ms = 0.0
        self.messages = 0
        self._lock = threading.Lock()  # guards `streams`: cameras return in other threads
        self._clip_frames = clip_frames
        self._keyframe_s = keyframe_s
        self._max_age_ms = max_age_ms
        self._problems = problems
        self._next_event: int | None = None

    def run(self, endpoint: str, stop: threading.Event) -> None:
        """Read until `stop`."""
        with Messages(endpoint, b"streamd/") as feed:
            while not stop.is_set():
                try:
                    topic, body = feed.within(_POLL_S)
                except TimeoutError:
                    continue
                self.take(topic, body)

    def take(self, topic: str, body: bytes) -> None:
        """One message."""
        self.messages += 1
        message = json.loads(body)
        kind = message["schema"].partition("/")[0]
        if kind == "streamd.result":
            with self._lock:
                self._result(topic, message)
        elif kind == "streamd.event":
            with self._lock:
                self._event(message)
        elif kind == "streamd.status":
            self.statuses += 1
            for status in message["streams"].values():
                self.status_age_ms = max(self.status_age_ms, status.get("age_p99_ms", 0.0))
        else:
            self._problems.add("message", f"{topic}: {body[:200]!r}")

    def returned(self, name: str, at_us: int) -> None:
        """A camera was started again and listens since `at_us`."""
        with self._lock:
            seen = self.streams[name]
            seen.returns += 1
            if seen.waiting:
                seen.unseen_returns += 1
                away_s = (at_us - seen.returned_us) / 1e6
                if away_s > LONGEST_BACKOFF_S + self._keyframe_s + NEW_CONNECTION_S + 5:
                    self._problems.add(
                        "return", f"{name}: was there for {away_s:.1f} s and was not looked for"
                    )
            seen.returned_us, seen.waiting = at_us, True

    # -- one message, under the lock -------------------------------------------------------------------

    def _result(self, topic: str, message: Mapping[str, Any]) -> None:
        name = message["stream"]
        seen = self.streams[name]
        before, seen.last = seen.last, message
        seen.results += 1
        number = number_of(message["objects"])
        if topic != f"streamd/{name}/results" or message["epoch"] != 0:
            self._problems.add("message", f"{name}: topic {topic}, epoch {message['epoch']}")
        if message["dropped"] != message["frame"] - message["seq"]:
            self._problems.add("count", f"{name}: seq {message['seq']}, frame {message['frame']}")
        if before is not None and message["seq"] != before["seq"] + 1:
            self._problems.add("gap", f"{name}: seq {message['seq']} after {before['seq']}")
        self._age(name, seen, message["stages_ms"])
        if seen.waiting and message["received_us"] >= seen.returned_us:
            self._back(name, seen, message["received_us"])
        if number is None:
            self._problems.add("picture", f"{name}: the number in frame {message['frame']} cannot be read")
            number = (seen.last_number + 1) % self._clip_frames
        elif before is not None and not before["received_us"] < seen.returned_us <= message["received_us"]:
            drawn = number - seen.last_number
            seen.missing += (drawn - (message["frame"] - before["frame"])) % self._clip_frames
        seen.last_number = number

    def _age(self, name: str, seen: Seen, stages_ms: Mapping[str, float]) -> None:
        self.ages["flapping" if seen.flapping else "steady"].add(stages_ms["total"])
        posted_ms = stages_ms["total"] - stages_ms["publish"]
        if posted_ms > self._max_age_ms:
            self._problems.add("age", f"{name}: {posted_ms:.0f} ms old when it was posted")

    def _back(self, name: str, seen: Seen, received_us: int) -> None:
        seen.waiting = False
        wait_s = (received_us - seen.returned_us) / 1e6
        seen.waits_s.append(wait_s)
        if wait_s > LONGEST_BACKOFF_S + self._keyframe_s + NEW_CONNECTION_S:
            self._problems.add(
                "return", f"{name}: {wait_s:.1f} s from the camera's return to its first result"
            )
        if seen.connecting_us >= seen.returned_us:
            attempt_s = (received_us - seen.connecting_us) / 1e6
            seen.attempts_s.append(attempt_s)
            if attempt_s > self._keyframe_s + NEW_CONNECTION_S:
                self._problems.add(
                    "return", f"{name}: {attempt_s:.1f} s from the attempt to its first result"
                )

    def _event(self, message: Mapping[str, Any]) -> None:
        if message.get("replay"):
            return
        event, reason, name = message["event"], message.get("reason"), message.get("stream")
        self.events[f"{event}/{reason}" if reason else event] += 1
        if self._next_event is not None and message["n"] != self._next_event:
            self._problems.add("gap", f"event {message['n']} where {self._next_event} is next")
        self._next_event = message["n"] + 1
        line = f"{name}: {event} {reason}: {message.get('detail')}"
        if reason is not None and (reason not in _REASONS or reason == Reason.ERROR):
            self._problems.add("reason", line)
        if name is None:
            if event not in ("ready", "stopping"):
                self._problems.add("event", line)
            return
        seen = self.streams[name]
        if event == "removed":
            return
        if event not in (_OF_FLAPPING if seen.flapping else _OF_STEADY):
            self._problems.add("event", line)
        if event == "connecting":
            seen.connecting_us = message["at_us"]
