"""What the path costs beside what it is made of, the two sides taking turns.

    python -m tests.support.path_race own
    python -m tests.support.path_race engine MODEL.onnx
    python -m tests.support.path_race hostile CLIP.mp4

own: CPU time a frame of 64x64 with a model that does nothing, offline and in a daemon, and beside it what libav and
ONNX Runtime take for that alone. engine: pictures a second through the offline path, its source always the same
picture in memory, against as many threads that only run the session; once with the letterbox (`path`), once with
inputs that are taken as they lie (`prepared`). hostile: how long a picture takes to decode with a thread of pure
Python beside it, against without, where threads make way as soon as in a daemon. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import onnx

from streamd.models.description import describe
from streamd.pipeline.decoder import Preparer
from streamd.pipeline.slots import ModelInput
from streamd.service.configured import letterbox
from streamd.service.start import open_detector
from streamd.sources import Source, SourceRequest, open_source
from tests.support.clips import Clip, make
from tests.support.daemon import write_config
from tests.support.racing import AsItLies, Still, in_turns, offline, options, ratio, summary
from tools.graphs.noop import noop
from tools.graphs.planted import Planted

_DAEMON_SWITCH_S = 0.0002  # as the daemon sets it; offline runs leave it at 5 ms


# -- own time ------------------------------------------------------------------------------------------------


def own(frames: int, pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = {
            count: make(folder / f"{count}.mp4", Clip(width=64, height=64, frames=count, gop=250))
            for count in (frames, frames // 10)
        }
        model = folder / "noop.onnx"
        onnx.save(noop(Planted(3)), model)
        with open_detector(describe(model), options(1)) as (detector, _):
            picture = np.zeros(detector.input.picture, detector.input.dtype)

            def path_us() -> float:
                started = time.process_time()
                (end,) = offline(detector, clips[frames]).run([SourceRequest(str(clips[frames]))])
                assert end.frames == frames
                return (time.process_time() - started) / frames * 1e6

            def bare_us() -> float:
                started = time.process_time()
                with av.open(str(clips[frames])) as container:
                    container.streams.video[0].codec_context.thread_count = 1
                    for _ in container.decode(video=0):
                        detector.run([picture])
                return (time.process_time() - started) / frames * 1e6

            def daemon_us() -> float:
                many, few = (_daemon_cpu_s(folder, model, clip) for clip in clips.values())
                return (many - few) / (frames - frames // 10) * 1e6

            found = in_turns({"offline": path_us, "bare": bare_us, "daemon": daemon_us}, pairs)
    return {f"{side}_cpu_us": summary(figures) for side, figures in found.items()}


def _daemon_cpu_s(folder: Path, model: Path, clip: Path) -> float:
    config = write_config(
        folder / "c.yaml", model, {"a": {"url": str(clip), "pace": "fast"}}, metrics={"listen": None}
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "streamd", "run", "-c", str(config)], check=True, stderr=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# -- the engine ----------------------------------------------------------------------------------------------


def engine(model: Path, frames: int, pairs: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        open_detector(describe(model), options(None)) as (detector, _),
    ):
        shape = detector.input
        clip = make(Path(name) / "a.mp4", Clip(width=shape.width, height=shape.height, frames=2))

        def opened(request: SourceRequest, stop: threading.Event) -> Source:
            source = open_source(request, stop)
            return cast(Source, Still(source, next(source.pictures()), frames))

        def path_fps(preparer: Callable[[ModelInput], Preparer]) -> float:
            run = offline(detector, clip)
            run.open_source, run.preparer = opened, preparer
            started = time.perf_counter()
            (end,) = run.run([SourceRequest(str(clip))])
            assert end.frames == frames
            return frames / (time.perf_counter() - started)

        def bare_fps() -> float:
            picture = np.zeros(shape.picture, shape.dtype)
            left = iter(range(frames))  # each number is given out once, whichever thread asks

            def run(place: int) -> None:
                for _ in left:
                    detector.run([picture], place)

            threads = [threading.Thread(target=run, args=(place,)) for place in range(detector.runs)]
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return frames / (time.perf_counter() - started)

        sides = {
            "path": lambda: path_fps(letterbox),
            "prepared": lambda: path_fps(AsItLies),
            "bare": bare_fps,
        }
        found = in_turns(sides, pairs)
        return {
            "runs_side_by_side": detector.runs,
            **{f"{side}_fps": summary(figures) for side, figures in found.items()},
            "path_to_bare": ratio(found, "path", "bare"),
            "prepared_to_bare": ratio(found, "prepared", "bare"),
        }


# -- a hostile thread ----------------------------------------------------------------------------------------


def hostile(clip: Path, pairs: int) -> dict[str, Any]:
    sys.setswitchinterval(_DAEMON_SWITCH_S)

    def delays_ms() -> list[float]:
        taken = []
        with open_source(SourceRequest(str(clip)), threading.Event()) as source:
            begun = time.perf_counter()
            for _ in source.pictures():
                now = time.perf_counter()
                taken.append((now - begun) * 1000)
                begun = now
        return taken[1:]

    def with_busy_thread() -> list[float]:
        over = threading.Event()

        def spin() -> None:
            number = 0
            while not over.is_set():
                number += 1

        thread = threading.Thread(target=spin)
        thread.start()
        try:
            return delays_ms()
        finally:
            over.set()
            thread.join()

    found: dict[str, dict[str, list[float]]] = {}
    for share in (50, 99):
        found[f"p{share}"] = {"alone": [], "beside": []}
    for pair in range(pairs):
        sides = [("alone", delays_ms), ("beside", with_busy_thread)]
        for side, way in sides if pair % 2 == 0 else reversed(sides):
            taken = way()
            for share in (50, 99):
                found[f"p{share}"][side].append(float(np.percentile(taken, share)))
    return {
        name: {
            **{f"{side}_ms": summary(figures) for side, figures in sides_.items()},
            "beside_to_alone": ratio(sides_, "beside", "alone"),
        }
        for name, sides_ in found.items()
    }


def main() -> None:
    """Read the command line and race."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["own", "engine", "hostile"])
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=None)
    chosen = parser.parse_args()
    if chosen.path is None and chosen.what != "own":
        parser.error(f"{chosen.what} needs a file")
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "own": lambda: own(chosen.frames or 10_000, chosen.pairs),
        "engine": lambda: engine(chosen.path, chosen.frames or 300, chosen.pairs),
        "hostile": lambda: hostile(chosen.path, chosen.pairs),
    }
    print(
        json.dumps(
            {"what": chosen.what, "cores": len(os.sched_getaffinity(0)), **ways[chosen.what]()}, indent=1
        )
    )


if __name__ == "__main__":
    main()
