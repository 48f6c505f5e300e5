"""UDP packets that the kernel loses on their way: no result of a damaged picture, all told of, and back each time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.rig import CLIP
from tests.support import lossy_network
from tests.support.clips import make

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.rtsp
@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize(("seconds", "per_thousand"), [(8, 20), pytest.param(60, 10, marks=pytest.mark.soak)])
def test_packets_that_the_kernel_loses(tmp_path: Path, codec: str, seconds: int, per_thousand: int) -> None:
    if (reason := lossy_network.missing()) is not None:
        pytest.skip(reason)
    clip = make(tmp_path / "clip.mp4", replace(CLIP, width=320, height=240))
    script = [sys.executable, "-m", "tests.support.lossy_network", str(tmp_path), str(clip)]
    options = ["--codec", codec, "--seconds", str(seconds), "--per-thousand", str(per_thousand)]
    done = subprocess.run(
        ["unshare", "--net", *script, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds + 120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(json.dumps(found))
    assert found["dropped_by_the_kernel"] > 0
    # The drawn number is read in each result, and goes on as the time does.
    assert (found["unreadable"], found["wrong"]) == (0, 0)
    # A report of the sender's may be among the lost: it is no packet of a picture.
    assert found["dropped_by_the_kernel"] * 0.5 <= found["lost_told"] <= found["dropped_by_the_kernel"]
    state = found["state"]
    assert state["state"] == "live"
    assert state["dropped"]["corrupt"] > 0
    assert state["decoded"] == state["published"] + sum(state["dropped"].values()) + state["in_flight"]
    assert found["results"] > 0.2 * seconds * CLIP.rate
    assert found["exit_code"] == 0
