"""A crowd of cameras that ask for more than the box can do, at a model that does nothing: what still comes out.

    python -m tests.support.crowd_race --cameras 64 --size 64x64 --rate 30

One real daemon. Prints results a second, CPU time and voluntary changes of threads for each, as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import onnx

from tests.support.daemon import RunningDaemon, write_config
from tools.graphs.noop import noop
from tools.graphs.planted import Planted

_SETTLED_S = 3.0
_PUBLISHED = re.compile(r"^streamd_results_published_total\S* (\S+)$", re.MULTILINE)


def _published(daemon: RunningDaemon) -> float:
    return sum(map(float, _PUBLISHED.findall(daemon.page("/metrics"))))


def _spent(pid: int) -> tuple[float, int]:
    """Of all its threads: seconds of CPU, and voluntary changes to another one."""
    cpu_s, switches = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_s += int((task / "schedstat").read_text().split()[0]) / 1e9
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
        switches += int(found[1]) if found else 0
    return cpu_s, switches


def crowd(cameras: int, size: str, rate: int, seconds: float) -> dict[str, float]:
    """What comes out of one daemon in so many seconds."""
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "noop.onnx"
        onnx.save(noop(Planted(20)), model)
        streams = {f"c{number}": {"url": f"test:?rate={rate}&size={size}"} for number in range(cameras)}
        with RunningDaemon(write_config(Path(name) / "c.yaml", model, streams)) as daemon:
            time.sleep(_SETTLED_S)
            begun, results, spent = time.perf_counter(), _published(daemon), _spent(daemon.process.pid)
            time.sleep(seconds)
            more = _published(daemon) - results
            passed_s = time.perf_counter() - begun
            cpu_s, switches = (b - a for a, b in zip(spent, _spent(daemon.process.pid), strict=True))
    return {
        "asked_per_s": cameras * rate,
        "results_per_s": round(more / passed_s, 1),
        "cores": round(cpu_s / passed_s, 2),
        "switches_per_result": round(switches / max(more, 1), 1),
    }


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cameras", type=int, default=64)
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=6)
    chosen = parser.parse_args()
    print(json.dumps(crowd(chosen.cameras, chosen.size, chosen.rate, chosen.seconds)))


if __name__ == "__main__":
    main()
