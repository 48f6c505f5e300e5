"""A stream that is opened again at the very moment of its end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from streamd.core.crew import Crew
from streamd.core.timing import Deadline
from streamd.models.description import describe
from streamd.models.session import RuntimeOptions
from streamd.pipeline.outbox import Outbox
from streamd.pipeline.ring import Rings
from streamd.pipeline.worker import Worker
from streamd.service import loading, streams
from streamd.service.configured import known_names
from streamd.service.fleet import Fleet, RunningModel
from streamd.service.start import open_detector
from tests.support.clips import Clip, make
from tests.support.daemon import write_config
from tests.support.number_model import make_number_model


def test_a_stream_is_opened_again_while_its_last_thread_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that has told of the end takes its time to be gone."""
    clip = make(tmp_path / "c.mp4", Clip(frames=5))
    model = make_number_model(tmp_path / "m.onnx")
    path = write_config(tmp_path / "c.yaml", model, {"film": {"url": str(clip), "pace": "fast"}})
    (config,) = loading.load(path, tables=known_names()).streams
    told: list[str] = []
    told_of_it, go_on = threading.Event(), threading.Event()
    log = streams.Stream._log

    def slow_log(stream: streams.Stream, state: streams.State, detail: str | None) -> None:
        log(stream, state, detail)
        if state == "ended" and not told_of_it.is_set():
            told_of_it.set()
            assert go_on.wait(30)

    monkeypatch.setattr(streams.Stream, "_log", slow_log)
    options = RuntimeOptions(("cpu",), True, "fp32", 0, tmp_path, 1)
    with open_detector(describe(model), options) as (detector, warm_ms), Crew() as crew:
        rings, outbox = Rings(), Outbox[object](1000)
        worker = Worker(detector, rings, outbox)
        crew.start("infer", worker.run)
        running = RunningModel(detector, warm_ms)
        fleet = Fleet(running, rings, worker, lambda lane, event, reason, detail: told.append(event))
        fleet.apply(fleet.difference([config]), [config], crew)
        assert told_of_it.wait(30)
        changed = config.model_copy(update={"timeout_s": 7.0})
        fleet.apply(fleet.difference([changed]), [changed], crew)
        deadline = Deadline(30)
        while told.count("ended") < 2 and deadline.left_s():
            crew.wait(0.05)
        assert told == ["connecting", "live", "ended"] * 2
        go_on.set()
        assert crew.join("decode:", Deadline(30))
        # The thread that was late says no more about the stream.
        assert fleet.streams["film"].standing.state == "ended"
        assert told == ["connecting", "live", "ended"] * 2
        assert fleet.streams["film"].lane.ledger.snapshot().decoded == 10
        rings.close(drain=False)
        crew.join("", Deadline(30))
    assert crew.failure is None
