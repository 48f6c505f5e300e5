"""Files that a daemon reads as fast as it can, against as many threads that only decode them.

    python -m tests.support.decode_race CLIP.mp4 --streams 8

One real daemon plays the clip in a loop in every stream, with a model that does nothing, for a subscriber that
counts. Beside it, in turns: threads of PyAV that decode the same over and over, and, if there is an ffmpeg, processes
of `ffmpeg -f null` that decode it once, their start included. Each decoder has one thread. Prints pictures a second
as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import onnx
import zmq

from tests.support.daemon import RunningDaemon, write_config
from tests.support.racing import in_turns, ratio, summary
from tools.graphs.noop import noop
from tools.graphs.planted import Planted

_SETTLED_S = 2.0


def daemon_per_s(config: Path, seconds: float, env: dict[str, str] | None = None) -> float:
    """Results that a subscriber gets."""
    with (
        RunningDaemon(config, env) as daemon,
        zmq.Context() as context,
        context.socket(zmq.SUB) as socket,
    ):
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 0)  # all wait in libzmq's queue: no Python runs beside the daemon
        socket.connect(daemon.endpoint)
        socket.subscribe(b"streamd/")
        time.sleep(_SETTLED_S)
        _waiting_results(socket)
        begun = time.perf_counter()
        time.sleep(seconds)
        passed_s = time.perf_counter() - begun
        return _waiting_results(socket) / passed_s


def _waiting_results(socket: zmq.Socket[bytes]) -> int:
    """How many have come since it was last asked."""
    count = 0
    while socket.poll(0):
        topic, _ = socket.recv_multipart()
        count += topic.endswith(b"/results")
    return count


def bare_per_s(clip: Path, streams: int, seconds: float) -> float:
    """Pictures that threads of PyAV decode."""
    counts: list[int] = []
    ends_s = time.perf_counter() + seconds

    def run() -> None:
        count = 0
        while time.perf_counter() < ends_s:
            with av.open(str(clip)) as container:
                container.streams.video[0].codec_context.thread_count = 1
                for _ in container.decode(video=0):
                    count += 1
                    if time.perf_counter() >= ends_s:
                        break
        counts.append(count)

    begun = time.perf_counter()
    _side_by_side(run, streams)
    assert len(counts) == streams
    return sum(counts) / (time.perf_counter() - begun)


def ffmpeg_per_s(clip: Path, streams: int) -> float:
    """Pictures that processes of ffmpeg decode."""
    with av.open(str(clip)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(clip), "-f", "null", "-"]
    begun = time.perf_counter()
    _side_by_side(lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL), streams)
    return frames * streams / (time.perf_counter() - begun)


def _side_by_side(target: Callable[[], object], count: int) -> None:
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def race(clip: Path, streams: int, pairs: int, seconds: float) -> dict[str, Any]:
    """All sides, in turns."""
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "noop.onnx"
        onnx.save(noop(Planted(3)), model)
        entry = {"url": str(clip), "pace": "fast", "loop": True}
        config = write_config(
            Path(name) / "c.yaml", model, {f"s{number}": entry for number in range(streams)}
        )
        sides = {
            "daemon": lambda: daemon_per_s(config, seconds),
            "bare": lambda: bare_per_s(clip, streams, seconds),
        }
        if shutil.which("ffmpeg"):
            sides["ffmpeg"] = lambda: ffmpeg_per_s(clip, streams)
        found = in_turns(sides, pairs)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "streams": streams,
        **{f"{side}_per_s": summary(figures) for side, figures in found.items()},
        **{f"daemon_to_{side}": ratio(found, "daemon", side) for side in sides if side != "daemon"},
    }


def main() -> None:
    """Read the command line and race."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args()
    print(json.dumps(race(chosen.clip.absolute(), chosen.streams, chosen.pairs, chosen.seconds), indent=1))


if __name__ == "__main__":
    main()
