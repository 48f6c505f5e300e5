"""`max_fps` far below the camera's rate: the pictures between keyframes are not even decoded."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streamd.sources.thinning import OBSERVED_S
from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.rtsp_camera import Camera, Stream, units_of
from tests.support.zmq_reader import Reader

RATE = 25
FRAMES = 200


class Counts(NamedTuple):
    decoded: float
    skipped: float


def counts_of(daemon: RunningDaemon) -> Counts:
    lines = daemon.page("/metrics").splitlines()
    decoded = [line for line in lines if line.startswith("streamd_frames_decoded_total{")]
    skipped = [line for line in lines if line.startswith("streamd_packets_skipped_total{")]
    limited = [line for line in skipped if 'reason="rate_limit"' in line]
    return Counts(*(sum(float(line.rsplit(" ", 1)[1]) for line in found) for found in (decoded, limited)))


def rightly(results: list[dict[str, Any]]) -> bool:
    """Whether each result is of the picture that its time says."""
    return all(number_of(m["objects"]) == round(m["pts"] * RATE) % FRAMES for m in results)


@pytest.mark.long
@pytest.mark.parametrize(
    ("gop", "max_fps"),
    [(5, 3), pytest.param(60, 0.36, marks=pytest.mark.soak, id="keyframes-beyond-a-stall")],
)
def test_keyframes_alone_are_decoded_until_more_is_wanted(tmp_path: Path, gop: int, max_fps: float) -> None:
    path = make(tmp_path / "numbers.mp4", Clip(frames=FRAMES, gop=gop))
    model = make_number_model(tmp_path / "number.onnx")
    with Camera(units_of(path), Stream(rate=RATE)) as camera:
        streams = {"gate": {"url": camera.url, "max_fps": max_fps}}
        config = write_config(tmp_path / "c.yaml", model, streams)
        with RunningDaemon(config) as daemon, Reader(daemon.endpoint) as reader:
            before_s = time.monotonic() + 30 + OBSERVED_S + 12 * gop / RATE
            counts = [counts_of(daemon)]
            while counts[-1].skipped < 5 * gop:
                assert time.monotonic() < before_s
                time.sleep(gop / RATE)
                counts.append(counts_of(daemon))
            # Between two looks at the counters nothing but a keyframe was decoded.
            steps = [(b.decoded - a.decoded, b.skipped - a.skipped) for a, b in pairwise(counts)]
            assert any(0 < decoded <= skipped / 2 for decoded, skipped in steps)
            assert rightly(reader.of("/results"))
            write_config(tmp_path / "c.yaml", model, {"gate": {"url": camera.url}})
            before = len(reader.messages)
            daemon.process.send_signal(signal.SIGHUP)
            assert reader.wait(
                lambda messages: sum("/results" in topic for topic, _ in messages[before:]) > gop + 10,
                timeout_s=60,
            )
            results = reader.of("/results")
            assert rightly(results)
            assert [m["seq"] for m in results] == list(
                range(results[0]["seq"], results[0]["seq"] + len(results))
            )
            assert results[-1]["epoch"] == results[0]["epoch"]
            events = [m["event"] for m in reader.of("gate/events")]
            assert not {"stalled", "lost"} & set(events)
