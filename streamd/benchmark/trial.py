"""So many cameras in a daemon of its own, watched from outside, as somebody who subscribes sees it."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from msgspec import UNSET

from streamd.benchmark import proc
from streamd.benchmark.cameras import CameraKind
from streamd.benchmark.report import Trial
from streamd.bus.client import Messages, messages
from streamd.core.errors import StreamdError
from streamd.core.text import printable
from streamd.core.timing import Deadline, wall_us

_START_S = 60.0
"""For the daemon to load its model and for every camera to give its first result; engines are built by then."""
_SETTLE_S = 1.0  # from the last camera's first result until counting begins: loading and connecting are over
_TAIL_S = 2.0  # for what was published while counting to arrive
_STOP_S = 10.0
_US = 1_000_000
_ENOUGH = 0.98
"""Of a camera's rate."""
_LATER = (2.0, 50.0)
"""Ages that grow by this factor and by so many milliseconds from the first third to the last mean a queue grows."""


class Result(msgspec.Struct):
    """What is read of a published result."""

    stream: str
    published_us: int
    stages_ms: dict[str, float]


_decode = msgspec.json.Decoder(Result).decode


@dataclass(frozen=True, slots=True)
class Asked:
    """What a camera has to give: `rate` results a second, for so many seconds.

    max_fps: what limits it to that rate; None: its own. clip_s: the length of a clip that stands for it; None: it is
    a camera.
    """

    rate: float
    seconds: float
    max_fps: float | None = None
    clip_s: float | None = None

    def fewest(self, seconds: float) -> float:
        """Results in so many seconds that are enough: the window cuts an interval, and a clip is opened again."""
        openings = math.ceil(seconds / self.clip_s) if self.clip_s else 0
        return _ENOUGH * self.rate * seconds - 1 - openings


def run_trial(kind: CameraKind, cameras: int, asked: Asked) -> Trial:
    """Run so many cameras in a daemon and count what they give. Blocks.

    Raises StreamdError when the daemon ends, or no camera gives a result in time.
    """
    with tempfile.TemporaryDirectory(prefix="streamd-bench-") as name:
        folder = Path(name)
        endpoint = f"ipc://{folder}/results"
        config = folder / "streamd.yaml"
        config.write_text(
            json.dumps(kind.configuration(cameras, asked.max_fps, endpoint))
        )  # which is YAML as well
        with DaemonProcess(config, kind.environment) as daemon, messages(endpoint) as feed:
            Watch(feed, daemon).await_all(cameras)
            Watch(feed, daemon).collect(_SETTLE_S)
            watch = Watch(feed, daemon)
            cpu_s, began_us = proc.process_cpu_s(daemon.pid), wall_us()
            watch.collect(asked.seconds)
            cpu_s, ended_us = proc.process_cpu_s(daemon.pid) - cpu_s, wall_us()
            memory_mib = proc.resident_mib(daemon.pid)
            watch.collect_until(ended_us, _TAIL_S)
    counted_s = (ended_us - began_us) / _US
    seen = [result for result in watch.results if began_us <= result.published_us < ended_us]
    return judge(seen, cameras, asked, counted_s, cpu_s / counted_s, memory_mib)


def judge(
    seen: list[Result], cameras: int, asked: Asked, seconds: float, cpu: float, memory_mib: float
) -> Trial:
    """Whether they held. seen: the results that were published in these seconds, in that order."""
    ages = [result.stages_ms["total"] for result in seen]
    by_camera = {f"camera{number}": 0 for number in range(cameras)}
    for result in seen:
        by_camera[result.stream] += 1
    fewest = min(by_camera, key=by_camera.__getitem__)
    why = None
    if by_camera[fewest] < asked.fewest(seconds):
        why = f"{fewest} gave {by_camera[fewest] / seconds:.1f} results a second instead of {asked.rate:.4g}"
    elif _later(ages):
        why = "results came later and later"
    p50, p95, p99 = (float(np.percentile(ages, share)) if ages else 0.0 for share in (50, 95, 99))
    return Trial(
        cameras=cameras,
        seconds=round(seconds, 3),
        results=len(seen),
        expected=round(cameras * asked.rate * seconds, 1),
        cpu=round(cpu, 3),
        memory_mib=round(memory_mib, 1),
        age_p50_ms=round(p50, 2),
        age_p95_ms=round(p95, 2),
        age_p99_ms=round(p99, 2),
        held=why is None,
        why=UNSET if why is None else why,
    )


def _later(ages: list[float]) -> bool:
    third = len(ages) // 3
    if not third:
        return False
    first, last = statistics.median(ages[:third]), statistics.median(ages[-third:])
    factor, more = _LATER
    return last > factor * first and last > first + more


class DaemonProcess:
    """A daemon of its own for a configuration; SIGTERM at the end of the block, SIGKILL when that does not do."""

    def __init__(self, config: Path, environment: Mapping[str, str]) -> None:
        self._config = config
        self._log = config.with_suffix(".log")
        self._environment = environment

    @property
    def pid(self) -> int:
        return self._process.pid

    def must_run(self) -> None:
        """Raises StreamdError, with the daemon's last words, when it has ended."""
        if self._process.poll() is not None:
            raise StreamdError(f"the measured daemon ended: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return printable(lines[-1].removeprefix("streamd: ")) if lines else "without a word"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # nosec B603  # our own interpreter and words
                [sys.executable, "-m", "streamd.benchmark.ward", "-c", str(self._config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # Everything as it is here, and what the configuration refers to.
                env={**os.environ, **self._environment},
                # A Ctrl-C is for the process that measures; it ends the daemon itself.
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


class Watch:
    """Collects results of a daemon that runs. One thread; every method raises StreamdError when the daemon ends."""

    def __init__(self, feed: Messages, daemon: DaemonProcess) -> None:
        self.results: list[Result] = []
        self._feed = feed
        self._daemon = daemon

    def collect(self, seconds: float) -> None:
        """For so long."""
        deadline = Deadline(seconds)
        while (left_s := deadline.left_s()) > 0:
            self._take(left_s)

    def collect_until(self, published_us: int, seconds: float) -> None:
        """Until a result comes that was published later, at most for so long."""
        deadline = Deadline(seconds)
        while (left_s := deadline.left_s()) > 0:
            if self.results and self.results[-1].published_us >= published_us:
                return
            self._take(left_s)

    def await_all(self, cameras: int) -> None:
        """Until each of so many cameras has given a result, or the time for that is over.

        Raises StreamdError when none has.
        """
        deadline = Deadline(_START_S)
        while len({result.stream for result in self.results}) < cameras and deadline.left_s():
            self.collect(0.2)
        if not self.results:
            told = self._daemon.last_words()
            raise StreamdError(
                f"no camera gave a result within {_START_S:.0f} s; the daemon's last words: {told}"
            )

    def _take(self, at_most_s: float) -> None:
        try:
            topic, body = self._feed.within(min(at_most_s, 0.5))
        except TimeoutError:
            self._daemon.must_run()
            return
        if topic.endswith("/results"):
            self.results.append(_decode(body))
