"""A result becomes a message, and the message comes to another thread over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamd.bus import wire
from streamd.bus.client import messages
from streamd.bus.messages import result_message
from streamd.bus.publisher import Note, Publisher
from streamd.bus.wake import Wake
from streamd.models.contract import Detections
from streamd.pipeline.outbox import Outbox, Result
from tests.benchmarks.conftest import Effort
from tests.support.frames import frame_of, lane_of

OBJECTS = 20
LABELS = tuple(f"class_{number}" for number in range(80))


def result_of(seq: int = 0) -> Result:
    random = np.random.default_rng(seq)
    seen = Detections(
        (random.random((OBJECTS, 4)) * 1000).astype(np.float32),
        random.random(OBJECTS).astype(np.float32),
        np.arange(OBJECTS),
    )
    return Result(frame_of(lane_of("gate")), seq, seen, "model@12345678", LABELS, "CPUExecutionProvider")


@pytest.mark.benchmark(group="encode a result of 20 objects")
def test_encode(benchmark: BenchmarkFixture) -> None:
    result = result_of()
    message = benchmark(lambda: wire.encode(result_message(result, "run1", 99)))
    assert len(wire_objects(message)) == OBJECTS
    benchmark.extra_info["bytes"] = len(message)


def wire_objects(message: bytes) -> list[object]:
    import json

    return list(json.loads(message)["objects"])


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[tuple[Outbox[Note], str]]:
    """A publisher that runs, and where."""
    wake = Wake()
    outbox: Outbox[Note] = Outbox(64, wake)
    endpoint = f"ipc://{tmp_path}/results"
    publisher = Publisher(endpoint, outbox, wake, "run1")
    thread = threading.Thread(target=publisher.run)
    thread.start()
    assert publisher.bound.wait(10)
    yield outbox, endpoint
    outbox.close()
    thread.join()


@pytest.mark.benchmark(group="from the outbox to a subscriber")
def test_publish(bus: tuple[Outbox[Note], str], effort: Effort, benchmark: BenchmarkFixture) -> None:
    """Rounds of results, from the first that is posted to the last that has come."""
    outbox, endpoint = bus
    results = [result_of(seq) for seq in range(effort.choose(500, 8))]
    with messages(endpoint, timeout_s=20) as feed:
        # The subscription is there when the last value comes.
        outbox.note(wire.EventMessage(run="run1", stream="gate", epoch=0, n=0, at_us=1, event="live"))
        while not next(feed)[0].endswith("/events"):
            pass

        def through() -> int:
            for result in results:
                outbox.wait_for_room()
                outbox.post(result)
            came = 0
            while came < len(results):
                topic, _ = next(feed)
                came += topic.endswith("/results")
            return came

        assert benchmark(through) == len(results)
    benchmark.extra_info["results"] = len(results)
