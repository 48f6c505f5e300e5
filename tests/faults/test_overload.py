"""Eight live cameras on a model that manages a fraction of them: fresh, fair, flat, and every frame accounted for."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader

_STREAMS = 8
_AGE_MS = 500


@pytest.mark.long
@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.soak)])
def test_eight_cameras_at_thirty_pictures_a_second(tmp_path: Path, seconds: int) -> None:
    model = make_number_model(tmp_path / "slow.onnx", burn=50, batch=1)
    streams = {
        f"s{index}": {"url": "test:?rate=30&size=320x240", "max_age_ms": _AGE_MS} for index in range(_STREAMS)
    }
    config = write_config(tmp_path / "c.yaml", model, streams)
    with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
        assert reader.wait(lambda _: all(reader.of(f"/{name}/results") for name in streams))
        first = daemon.streams()
        process = psutil.Process(daemon.process.pid)
        memory = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for state in daemon.streams().values():
                assert state["decoded"] == (
                    state["published"] + sum(state["dropped"].values()) + state["in_flight"]
                )
            memory.append(process.memory_info().rss)
            time.sleep(0.05)
        last = daemon.streams()
        assert daemon.stop() == 0
    shares = [last[name]["published"] - first[name]["published"] for name in streams]
    dropped = sum(state["dropped"].get("ring_full", 0) for state in last.values())
    ages = [
        message["stages_ms"]["total"] - message["stages_ms"]["publish"]
        for name in streams
        for message in reader.of(f"/{name}/results")
    ]
    rate = sum(shares) / seconds
    print(f"{rate:.1f} results/s, shares {shares}, age p50 {np.percentile(ages, 50):.0f} p99 "
          f"{np.percentile(ages, 99):.0f} ms, memory {(memory[-1] - memory[0]) / 2**20:+.2f} MiB")  # fmt: skip
    assert dropped > sum(shares) / 4, "this machine is too fast for this test: burn more"
    # The budget is held at posting, for every single one.
    assert max(ages) <= _AGE_MS
    equal = sum(shares) / _STREAMS
    assert all(abs(share - equal) <= max(2, 0.2 * equal) for share in shares), shares
    half = len(memory) // 2
    assert np.median(memory[half:]) - np.median(memory[:half]) < 8 * 2**20
