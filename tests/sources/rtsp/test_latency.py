"""A picture is in hand at its last packet; libav waits for the next one. Only relations are asked for here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RATES = (30, 10)


@pytest.mark.long
def test_a_picture_is_in_hand_before_the_next_one_begins() -> None:
    """The median delay is at least half a frame interval below libav's, in the same run."""
    races = {
        rate: subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.rtsp_race", "--size", "640x480", "--rounds", "1"),
                *("--seconds", "2", "--rate", str(rate)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rate in RATES
    }
    for rate, race in races.items():
        out, _ = race.communicate(timeout=60)
        assert race.returncode == 0
        found = json.loads(out)
        assert found["own"]["p50_ms"] < found["libav"]["p50_ms"] - 500 / rate, found
