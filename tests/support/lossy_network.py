"""A network of its own in which packets are really lost; run as a script, by root, in a new network namespace.

    unshare --net python -m tests.support.lossy_network FOLDER CLIP --seconds 60 --per-thousand 10

A GStreamer server sends the clip over UDP, the kernel drops some of the packets at its input, and a daemon reads what
is left; the clip's pictures have their numbers drawn in. Prints JSON: what was published, dropped and lost, and by
how much each result that follows a damaged group is later than the one before it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.rtsp_server import Mount, serve
from tests.support.zmq_reader import Reader

_RULES = """
table inet lossy {{
  chain input {{
    type filter hook input priority 0; policy accept;
    meta l4proto udp numgen random mod 1000 < {per_thousand} counter drop
  }}
}}
"""


def missing() -> str | None:
    """Why it cannot be done here, with what mends it; None when it can."""
    check = "ip link set lo up && nft list ruleset && nft add table inet probe"
    try:
        done = subprocess.run(["unshare", "--net", "sh", "-c", check], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is not None and done.returncode == 0:
        return None
    return "no network namespace with nftables here: as root, apt-get install nftables iproute2"


def lose(per_thousand: int) -> None:
    """From now on the kernel drops so many of the UDP packets that come in."""
    rules = _RULES.format(per_thousand=per_thousand)
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def lost_by_the_kernel() -> int:
    """How many packets it has dropped."""
    shown = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"counter packets (\d+)", shown)
    assert found
    return int(found[1])


def watch(folder: Path, clip: Path, mount: Mount, seconds: float, per_thousand: int) -> dict[str, Any]:
    """Let a daemon read the mount for so long; what it published and counted."""
    model = make_number_model(folder / "number.onnx")
    with serve([mount]) as server:
        camera = {"url": server.url(mount.name), "transport": "udp", "max_age_ms": 10_000}
        config = write_config(folder / "c.yaml", model, {"gate": camera})
        with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
            assert reader.wait(lambda _: len(reader.of("/gate/results")) > 10, 60), daemon.log
            lose(per_thousand)
            time.sleep(seconds)
            state = daemon.streams()["gate"]
            metrics = daemon.page("/metrics")
            dropped = lost_by_the_kernel()
            code = daemon.stop()
            results = reader.of("/gate/results")
            events = [m["event"] for m in reader.of("/gate/events") if not m.get("replay")]
    lost = re.search(r'^streamd_packets_lost_total{stream="gate"} (\S+)', metrics, re.M)
    numbers = [number_of(m["objects"]) for m in results]
    gaps = [after["frame"] - before["frame"] for before, after in itertools.pairwise(results)]
    return {
        "seconds": seconds,
        "dropped_by_the_kernel": dropped,
        "lost_told": float(lost[1]) if lost else 0.0,
        "results": len(results),
        "state": state,
        "unreadable": numbers.count(None),
        "wrong": _wrong(numbers, results, mount),
        "longest_gap_frames": max(gaps, default=0),
        "groups_lost": sum(gap > 1 for gap in gaps),
        "events": sorted(set(events)),
        "exit_code": code,
    }


def _wrong(numbers: list[int | None], results: list[dict[str, Any]], mount: Mount) -> int:
    """Results whose drawn number does not go on as their time does."""
    wrong = 0
    known = [(n, m) for n, m in zip(numbers, results, strict=True) if n is not None]
    for (a, before), (b, after) in itertools.pairwise(known):
        passed = round((after["pts"] - before["pts"]) * mount.rate)
        wrong += (b - a) % 250 != passed % 250
    return wrong


def main() -> None:
    """Read the command line, set the network up, and watch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--per-thousand", type=int, default=10)
    chosen = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    mount = Mount("gate", codec=chosen.codec, width=320, height=240, clip=str(chosen.clip))
    found = watch(chosen.folder, chosen.clip, mount, chosen.seconds, chosen.per_thousand)
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
