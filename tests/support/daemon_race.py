"""How soon a daemon's first result comes, and how old results are when the cameras bring too much.

    python -m tests.support.daemon_race start MODEL.onnx CLIP.mp4
    python -m tests.support.daemon_race overload MODEL.onnx --cameras 16

start: from the start of the process to the first result in the hands of a subscriber that waits for it; MODEL's
engine is whatever its first start left in the cache. overload: so many `test:` cameras of 15 pictures a second; how
many times more they offer than is served, and the 99th percentile of the ages (`total`) as a share of `max_age_ms`.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from tests.support.daemon import RunningDaemon, write_config
from tests.support.racing import summary
from tests.support.zmq_reader import Reader

_RATE = 15  # pictures a second of a camera


def start(model: Path, clip: Path, times: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, zmq.Context() as context:
        endpoint = f"ipc://{name}/bus"
        config = write_config(
            Path(name) / "c.yaml", model, {"a": {"url": str(clip)}}, publish={"bind": endpoint}
        )
        found = []
        for _ in range(times + 1):  # the first one fills caches, of the disk too
            with context.socket(zmq.SUB) as socket:
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.RECONNECT_IVL, 10)
                socket.connect(endpoint)
                socket.subscribe(b"streamd/a/results")
                begun = time.monotonic()
                daemon = subprocess.Popen(
                    [sys.executable, "-m", "streamd", "run", "-c", str(config)], stderr=subprocess.DEVNULL
                )
                try:
                    assert socket.poll(60_000), "no result in a minute"
                    found.append(time.monotonic() - begun)
                    first = json.loads(socket.recv_multipart()[1])
                finally:
                    daemon.terminate()
                    daemon.wait(20)
    return {"first_result_s": summary(found[1:]), "seq": first["seq"], "provider": first["provider"]}


def overload(model: Path, cameras: int, seconds: float, max_age_ms: int) -> dict[str, Any]:
    served, ages_ms = _served(model, cameras, seconds, max_age_ms)
    p50, p99 = (float(np.percentile(ages_ms, share)) for share in (50, 99))
    return {
        "cameras": cameras,
        "offered_to_served": round(cameras * _RATE / served, 2),
        "results_per_s": round(served, 1),
        "age_ms": {"p50": round(p50, 1), "p99": round(p99, 1), "most": round(max(ages_ms), 1)},
        "p99_to_budget": round(p99 / max_age_ms, 3),
    }


def _served(model: Path, cameras: int, seconds: float, max_age_ms: int) -> tuple[float, list[float]]:
    """Results a second, and the age of each when it was published, once all cameras are there."""
    with tempfile.TemporaryDirectory() as name:
        streams = {
            f"c{number}": {"url": f"test:?rate={_RATE}&size=640x360", "max_age_ms": max_age_ms}
            for number in range(cameras)
        }
        config = write_config(Path(name) / "c.yaml", model, streams)
        with RunningDaemon(config) as daemon:
            reader = Reader(daemon.endpoint, b"streamd/c")
            try:
                time.sleep(2)
                before = len(reader.messages)
                time.sleep(seconds)
                messages = [message for _, message in reader.messages[before:]]
            finally:
                reader.close()
    ages = [message["stages_ms"]["total"] for message in messages if "stages_ms" in message]
    return len(ages) / seconds, ages


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["start", "overload"])
    parser.add_argument("model", type=Path)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--max-age-ms", type=int, default=500)
    chosen = parser.parse_args()
    if chosen.what == "start" and chosen.clip is None:
        parser.error("start needs a clip")
    found = (
        start(chosen.model, chosen.clip, chosen.starts)
        if chosen.what == "start"
        else overload(chosen.model, chosen.cameras, chosen.seconds, chosen.max_age_ms)
    )
    print(json.dumps({"what": chosen.what, **found}, indent=1))


if __name__ == "__main__":
    main()
