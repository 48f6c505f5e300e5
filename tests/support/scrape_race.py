"""Does a scrape of many streams hold results up? Publish latency with and without, taking turns in one daemon.

    python -m tests.support.scrape_race --streams 64 --seconds 10

Prints JSON: per side the time from the decoded frame to the message encoded (p50, p99, ms), and how long a scrape
took.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader


def race(streams: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Turns of `seconds` each without and with scrapes, as fast as they are answered; the result as it is printed."""
    sides: dict[str, list[float]] = {"quiet": [], "scraped": []}
    scrapes: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        model = make_number_model(Path(name) / "number.onnx")
        entries = {f"s{index}": {"url": "test:?rate=3&size=64x48"} for index in range(streams)}
        config = write_config(Path(name) / "c.yaml", model, entries)
        with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
            assert reader.wait(lambda _: all(reader.of(f"/{name}/results") for name in entries), 120)
            for _ in range(rounds):
                for side, delays in sides.items():
                    before = len(reader.messages)
                    deadline = time.monotonic() + seconds
                    while time.monotonic() < deadline:
                        if side == "quiet":
                            time.sleep(0.1)
                            continue
                        begun = time.perf_counter()
                        daemon.page("/metrics")
                        scrapes.append((time.perf_counter() - begun) * 1000)
                        time.sleep(0.2)  # five a second: far more than any Prometheus asks for
                    delays += [
                        message["stages_ms"]["total"] - message["stages_ms"]["decode"]
                        for topic, message in list(reader.messages)[before:]
                        if topic.endswith("/results")
                    ]
            assert daemon.stop() == 0
    found: dict[str, Any] = {
        side: {"results": len(delays), **_shares(delays)} for side, delays in sides.items()
    }
    return {"streams": streams, **found, "scrape": {"count": len(scrapes), **_shares(scrapes)}}


def _shares(values: list[float]) -> dict[str, float]:
    return {f"p{share}_ms": round(float(np.percentile(values, share)), 2) for share in (50, 99)}


def main() -> None:
    """Read the command line and race."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(json.dumps(race(chosen.streams, chosen.seconds, chosen.rounds), indent=1))


if __name__ == "__main__":
    main()
