"""Two sets of memory on a GPU: one batch is copied and read while the other runs, and none of it gets mixed up.

There is no GPU here: the sessions are ONNX Runtime's on the CPU, computing in memory that is copied to and from
(`FarMemory`), and held up where a GPU would be busy (`Held`). What is proven is which copies and runs come when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from streamd.core.errors import ModelError, ProviderError
from streamd.models.contract import Array, Detections
from streamd.models.description import Description, describe
from streamd.models.detector import Detector
from streamd.models.libraries import LibraryError
from streamd.models.running import Session, warmed
from streamd.models.selection import rules_for
from streamd.models.shapes import black
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.slots import ModelInput, SlotPool
from streamd.pipeline.worker import Worker
from tests.models.test_detector import WHOLE, number_in, picture_of
from tests.support.bound_sessions import ort_session
from tests.support.far_memory import FarMemory, Held
from tests.support.frames import frame_of
from tests.support.number_model import HEIGHT, LABELS, WIDTH, make_number_model

_WAIT_S = 20.0


def shown(detections: Detections) -> int:
    """The number in the picture that they were found in."""
    return number_in([LABELS[int(index)] for index in detections.class_ids])


def seen_by(detector: Detector, outputs: list[Array], rows: int) -> list[int]:
    """The numbers in the pictures that the outputs are of."""
    rules = rules_for(LABELS)
    found = [detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules) for row in range(rows)]
    return [shown(detections) for detections in found]


class Gpu:
    """A session in far memory with so many places; `memories` and `held` are what it was made with."""

    def __init__(self, folder: Path, places: int = 2, limit: int = 4) -> None:
        self.description: Description = describe(make_number_model(folder / "m.onnx"))
        self.memories: list[FarMemory] = []
        self.held = Held(ort_session(folder / "m.onnx"))
        self.told: list[str] = []
        self.session: Session = warmed(
            self.held, self.description.graph, limit, self._memory, [], self.told.append, places
        )
        self.detector = Detector(self.description, self.session, self.session.batch)

    def _memory(self) -> FarMemory:
        self.memories.append(FarMemory())
        return self.memories[-1]

    def run(self, place: int, *numbers: int) -> list[int]:
        outputs = self.detector.run([picture_of(number) for number in numbers], place)
        return self.seen(outputs, len(numbers))

    def seen(self, outputs: list[Array], rows: int) -> list[int]:
        return seen_by(self.detector, outputs, rows)


@pytest.fixture
def gpu(tmp_path: Path) -> Gpu:
    return Gpu(tmp_path)


def held_up(gpu: Gpu) -> tuple[threading.Event, threading.Event]:
    """The next run enters and stays until it is let go; later ones do not. (entered, go)"""
    entered, go = threading.Event(), threading.Event()
    first = gpu.held.count

    def before(number: int) -> None:
        if number == first:
            entered.set()
            assert go.wait(_WAIT_S)

    gpu.held.before = before
    return entered, go


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_each_place_has_its_own_memory(gpu: Gpu) -> None:
    assert (gpu.session.runs, gpu.detector.runs, gpu.detector.at_once) == (2, 2, 8)
    assert len(gpu.memories) == 2
    first, second = gpu.session.staging(0), gpu.session.staging(1)
    assert first is not None
    assert second is not None
    assert not np.shares_memory(first, second)
    assert gpu.session.notes == []
    gpu.session.close()
    assert all(memory.closed for memory in gpu.memories)


def test_the_next_batch_is_copied_while_one_runs_and_runs_after_it(gpu: Gpu) -> None:
    entered, go = held_up(gpu)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(gpu.run, 0, 11, 12)
        assert entered.wait(_WAIT_S)
        before = gpu.memories[1].copied
        second = threads.submit(gpu.run, 1, 21, 22)
        staged = gpu.session.staging(1)
        assert staged is not None
        until(lambda: gpu.memories[1].copied - before == staged[:2].nbytes)
        assert gpu.held.inside == 1, "it is there, and waits for the other one's end"
        assert not second.done()
        go.set()
        assert first.result(_WAIT_S) == [11, 12]
        assert second.result(_WAIT_S) == [21, 22]
    assert gpu.held.most_inside == 1


def test_outputs_stay_until_the_next_run_at_their_place(gpu: Gpu) -> None:
    outputs = gpu.detector.run([picture_of(41), picture_of(42)], 0)
    for number in range(50, 60):
        assert gpu.run(1, number, number + 100) == [number, number + 100]
    assert gpu.seen(outputs, 2) == [41, 42]


@pytest.mark.slow
def test_two_threads_run_hundreds_of_batches_and_see_their_own(gpu: Gpu) -> None:
    def body(place: int) -> None:
        for step in range(300):
            numbers = [(place * 30011 + step * 7 + row) % 60000 for row in range(step % 4 + 1)]
            assert gpu.run(place, *numbers) == numbers

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(body, place) for place in range(2)]:
            done.result(60)
    assert gpu.held.most_inside == 1


@pytest.mark.parametrize("lacking", ["stream", "host", "device"])
def test_where_memory_does_not_suffice_for_two_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    made: list[FarMemory] = []

    def no(*_: object) -> int:
        raise LibraryError("no 1234 bytes of GPU memory (CUDA error 2)")

    def memory() -> FarMemory:
        if made and lacking == "stream":
            no()
        made.append(FarMemory())
        if len(made) == 2:
            monkeypatch.setattr(made[1], "reserve" if lacking == "device" else "host", no)
        return made[-1]

    model = describe(make_number_model(tmp_path / "m.onnx"))
    with warmed(ort_session(model.path), model.graph, 4, memory, [], lambda _: None, 2) as session:
        assert session.runs == 1
        assert session.gate is None
        assert session.notes == [
            "no batch is copied while another one runs: no 1234 bytes of GPU memory (CUDA error 2)"
        ]
        assert session.staging() is not None
        session.run(black(session.graph, 4))
    assert all(far.closed for far in made)


def test_a_copy_that_fails_in_one_thread_disturbs_no_run_of_the_other(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both go on with outputs that are allocated for each run; memory that is still computed in is not freed."""
    entered, go = held_up(gpu)

    def fail() -> None:
        raise LibraryError("a copy failed (CUDA error 700)")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(gpu.run, 0, 11, 12)
        assert entered.wait(_WAIT_S)
        monkeypatch.setattr(gpu.memories[1], "finish", fail)
        assert gpu.run(1, 21, 22) == [21, 22]
        assert not gpu.memories[0].closed
        go.set()
        assert first.result(_WAIT_S) == [11, 12]
    assert gpu.told == ["outputs are allocated for each run from now on: a copy failed (CUDA error 700)"]
    gate = gpu.session.gate
    assert gate is not None
    gate.begin(0)
    gate.wait_until_due()
    assert gpu.run(0, 13) == [13]
    gpu.session.close()
    assert all(memory.closed for memory in gpu.memories)
    with pytest.raises(ProviderError, match="closed"):
        gpu.run(0, 1)


# -- the worker --------------------------------------------------------------------------------------------


class Passage:
    """Rings, the worker with its two threads, and an outbox, over a `Gpu`; joined at the end of the block."""

    def __init__(self, gpu: Gpu, streams: int = 1, fill: int = 0) -> None:
        self.gpu = gpu
        self.rings, self.outbox = Rings(), Outbox[None](10_000)
        self.sizes: list[int] = []
        target = ModelInput(gpu.detector.contract, gpu.detector.input)
        rules = rules_for(LABELS)
        lanes = [Lane(str(index), SlotPool(target, 200), rules, None) for index in range(streams)]
        self._in = [self.rings.add(lane, 200) for lane in lanes]
        self.worker = Worker(gpu.detector, self.rings, self.outbox, fill=fill, on_batch=self.sizes.append)
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(self.worker.threads)]

    def put(self, number: int, stream: int = 0) -> None:
        frame = frame_of(self._in[stream].lane)
        frame.slot.pixels[...] = picture_of(number)
        frame.width, frame.height, frame.placement = WIDTH, HEIGHT, WHOLE
        self._in[stream].put_newest_wins(frame)

    def newest_only(self) -> None:
        for ring in self._in:
            ring.resize(1)

    def _run(self) -> None:
        try:
            self.worker.run()
        except (ModelError, ProviderError) as error:
            self.failures.append(error)

    def __enter__(self) -> Passage:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rings.close(drain=True)
        for thread in self._threads:
            thread.join(_WAIT_S)
        assert not any(thread.is_alive() for thread in self._threads)

    def results(self) -> list[Result]:
        return [item for item in self.outbox.take(0) or [] if isinstance(item, Result)]


@pytest.mark.slow
@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("fill", [0, 1])
def test_every_frame_gets_its_own_result_in_order(tmp_path: Path, places: int, fill: int) -> None:
    gpu = Gpu(tmp_path, places)
    with Passage(gpu, streams=3, fill=fill) as path:
        assert path.worker.threads == places
        for step in range(100):
            for stream in range(3):
                path.put(step * 3 + stream, stream)
            if step % 5 == 0:
                time.sleep(0.002)
    assert path.failures == []
    found: dict[str, list[tuple[int, int]]] = {}
    for result in path.results():
        found.setdefault(result.frame.lane.stream, []).append((result.seq, shown(result.detections)))
    assert found == {str(stream): [(step, step * 3 + stream) for step in range(100)] for stream in range(3)}
    if fill:
        assert path.sizes == [4] * 75


@pytest.mark.long
def test_while_one_runs_no_small_batch_is_begun(tmp_path: Path) -> None:
    """What comes during a run is one batch after it, as with one thread: not one for the first that comes."""
    gpu = Gpu(tmp_path)
    with Passage(gpu) as path:
        gpu.held.before = lambda number: time.sleep(3)
        path.put(1)
        until(lambda: path.sizes == [1])  # so a run of one picture takes 3 s
        entered, go = held_up(gpu)
        path.put(2)
        assert entered.wait(_WAIT_S)
        for number in (3, 4, 5):
            path.put(number)
            time.sleep(0.05)
        go.set()
        until(lambda: sum(path.sizes) == 5)
    assert path.sizes == [1, 1, 3]


def test_a_frame_is_begun_while_the_batch_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread the GPU would have nothing to do meanwhile."""
    gpu = Gpu(tmp_path)
    reading, go = threading.Event(), threading.Event()
    read = gpu.detector.read_batch

    def slow(*given: object) -> object:
        if not reading.is_set():
            reading.set()
            assert go.wait(_WAIT_S)
        return read(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(gpu.detector, "read_batch", slow)
    with Passage(gpu) as path:
        path.put(1)
        assert reading.wait(_WAIT_S)
        runs = gpu.held.count
        for more in (1, 2, 3):  # at the other place: the first one's outputs are not read
            path.put(1 + more)
            until(lambda more=more: gpu.held.count == runs + more and gpu.held.inside == 0)
        path.put(5)
        time.sleep(0.05)
        assert gpu.held.count == runs + 3, "results wait for the first one, and may not be more and more"
        assert not path.results()
        go.set()
    assert [shown(result.detections) for result in path.results()] == [1, 2, 3, 4, 5]


def test_a_gpu_that_fails_ends_both_threads(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")

    monkeypatch.setattr(gpu.held, "run_with_iobinding", fail)
    monkeypatch.setattr(gpu.held, "run", fail, raising=False)
    with Passage(gpu) as path:
        for number in range(20):
            path.put(number)
        until(lambda: bool(path.failures))
        path.outbox.close()
    assert all("CUDA failure 700" in str(error) for error in path.failures)
    assert path.results() == []


def overloaded(folder: Path, places: int) -> tuple[float, float, float]:
    """Four cameras of 200 pictures a second, runs of 30 ms and copies of 5 ms each way.

    Results a second, the median of their ages in ns, and the mean size of the batches.
    """
    gpu = Gpu(folder, places)
    gpu.held.before = lambda number: time.sleep(0.03)
    for memory in gpu.memories:
        memory.delay_s = 0.005
    with Passage(gpu, streams=4) as path:
        path.newest_only()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            for stream in range(4):
                path.put(1, stream)
            time.sleep(0.005)
    results = path.results()
    ages = [result.frame.stamps.posted - result.frame.stamps.received for result in results]
    return len(results) / 1.5, float(np.median(ages)), float(np.mean(path.sizes))


@pytest.mark.long
def test_under_overload_more_results_come_and_they_are_no_older(tmp_path: Path) -> None:
    """A batch that was begun as soon as there is a place for it would lie ready for most of a run."""
    one, two = ([overloaded(tmp_path, places) for _ in range(3)] for places in (1, 2))
    rate, age, size = (
        float(np.median([after[index] for after in two]) / np.median([before[index] for before in one]))
        for index in range(3)
    )
    assert rate > 1.1
    assert age < 1.2
    assert size > 0.8
