"""CUDA graphs: who is asked for which, by whom they are captured and replayed, and what happens where they cannot be.

There is no GPU here. The sessions are ONNX Runtime's on the CPU, in memory that is copied to and from; what a
provider does with graphs is pretended as its source has it (`PretendedGraphs`). Whether a GPU agrees is for the last
two tests to say, which have not run yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime import InferenceSession

from streamd.core.errors import ProviderError
from streamd.models import libraries
from streamd.models import session as session_module
from streamd.models.chain import open_session
from streamd.models.creation import NotHereError, Providers, Source
from streamd.models.description import Description, describe
from streamd.models.detector import Detector
from streamd.models.graph import read_graph
from streamd.models.libraries import LibraryError
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions, cuda_provider, open_on_gpu
from tests.models.test_detector import picture_of
from tests.models.test_places import seen_by, until
from tests.support.bound_sessions import counting_model
from tests.support.far_memory import FarMemory
from tests.support.gpu import needs_gpu
from tests.support.number_model import make_number_model
from tests.support.pretended_graphs import PretendedGraphs

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
OPTIONS = RuntimeOptions(("cuda",), False, "fp32", 0, Path("/none"), 4, cuda_graph=True)


class Card:
    """A GPU whose sessions are made here. asked: the providers of each session, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.model: Description = describe(make_number_model(folder / "m.onnx"))
        self.asked: list[Providers] = []
        self.graphs: list[PretendedGraphs] = []
        self.memories: list[FarMemory] = []
        self.refuses: Callable[[], None] = lambda: None
        self.replay: Callable[[], None] = lambda: None
        monkeypatch.setattr(session_module, "create", self._create)
        monkeypatch.setattr(session_module, "operators", lambda made: {made.get_providers()[0]: ["Add"]})
        monkeypatch.setattr(session_module, "CudaMemory", self._memory)

    def _memory(self, device: int) -> FarMemory:
        self.memories.append(FarMemory())
        return self.memories[-1]

    def _create(
        self, source: Source, providers: Providers, threads: int, entries: Mapping[str, str] | None = None
    ) -> Any:
        self.asked.append(providers)
        name, options = providers[0]
        content = str(source.path) if source.content is None else source.content
        session = Named(InferenceSession(content, providers=["CPUExecutionProvider"]), name)
        if not options.keys() & {"enable_cuda_graph", "trt_cuda_graph_enable"}:
            return session
        self.refuses()
        self.graphs.append(PretendedGraphs(session, by_number=name == CUDA, replay=lambda: self.replay()))
        return self.graphs[-1]

    def open(self, options: RuntimeOptions = OPTIONS, name: str = CUDA) -> Session:
        providers = [cuda_provider(options)]
        if name == TENSORRT:
            providers.insert(0, (TENSORRT, {"device_id": "0"}))
        source = Source(self.model.path, self.model.graph)
        return open_on_gpu(source, options, [], lambda _: None, providers)

    def sees(self, session: Session, place: int, *numbers: int) -> list[int]:
        detector = Detector(self.model, session, session.batch)
        outputs = detector.run([picture_of(number) for number in numbers], place)
        return seen_by(detector, outputs, len(numbers))


class Named:
    """A session that says it has another provider."""

    def __init__(self, session: Any, name: str) -> None:
        self._session, self._name = session, name

    def get_providers(self) -> list[str]:
        return [self._name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Card:
    return Card(monkeypatch, tmp_path)


@pytest.mark.slow
def test_there_is_a_graph_for_each_size_of_batch_at_each_place_captured_before_anybody_runs(
    card: Card,
) -> None:
    with card.open() as session:
        assert session.graphs
        assert session.notes == ["each run replays a CUDA graph"]
        (graphs,) = card.graphs
        numbers = [number for number, _ in graphs.captures]
        assert numbers == [1, 2, 3, 4, 5, 6], (
            "1, 2 and 4 pictures at two places; 0 and -1 mean something else"
        )
        (thread,) = {thread for _, thread in graphs.captures}
        assert thread != threading.get_ident()
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(hundreds, card, session, place) for place in range(2)]:
                done.result(60)
        assert len(graphs.captures) == 6, "no thread captured anything later"
        assert graphs.replays > 200
    assert all(memory.closed for memory in card.memories)
    until(no_graph_thread)


def no_graph_thread() -> bool:
    return not any(thread.name.startswith("graph") for thread in threading.enumerate())


def hundreds(card: Card, session: Session, place: int) -> None:
    for step in range(100):
        numbers = [(place * 30011 + step * 7 + row) % 60000 for row in range(step % 4 + 1)]
        assert card.sees(session, place, *numbers) == numbers


def test_the_first_provider_is_asked_and_no_other(card: Card) -> None:
    card.open().close()
    assert card.asked == [
        [(CUDA, {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"})],
        [(CUDA, {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1"})],
    ]
    card.asked.clear()
    card.open(replace(OPTIONS, batch_limit=1), TENSORRT).close()
    plain, graphs = card.asked
    assert graphs[0] == (TENSORRT, {"device_id": "0", "trt_cuda_graph_enable": "1"})
    assert plain[0] == (TENSORRT, {"device_id": "0"})
    assert plain[1] == graphs[1] == cuda_provider(OPTIONS)


def test_nobody_gets_graphs_who_did_not_ask(card: Card) -> None:
    with card.open(replace(OPTIONS, cuda_graph=False)) as session:
        assert not session.graphs
        assert session.runs == 2
    assert len(card.asked) == 1


def test_tensorrt_has_one_graph_for_one_size_of_batch_at_one_place(card: Card) -> None:
    with card.open(replace(OPTIONS, batch_limit=1), TENSORRT) as session:
        assert session.graphs
        assert session.notes == ["each run replays a CUDA graph; no batch is copied while one runs"]
        assert (session.buckets, session.runs, session.gate) == ((1,), 1, None)
        assert len(card.graphs[0].captures) == 1
        for number in range(20):
            assert card.sees(session, 0, number) == [number]


def test_tensorrt_has_none_where_batches_of_several_sizes_come(card: Card) -> None:
    """It would replay the one that it has, at whatever it is given."""
    with card.open(OPTIONS, TENSORRT) as session:
        assert_plain(card, session)
        assert session.notes == [
            "no CUDA graphs: TensorRT's provider keeps one for a session, and batches of 1, 2, 4 come; "
            "set batch.limit to 1"
        ]
    assert len(card.asked) == 1, "none was made in vain"


def assert_plain(card: Card, session: Session) -> None:
    """It runs as if nobody had asked, with both places."""
    assert not session.graphs
    assert session.runs == 2
    assert card.sees(session, 1, 7, 8, 9) == [7, 8, 9]


def test_what_cannot_be_captured_runs_without_and_says_why(card: Card) -> None:
    def refuse() -> None:
        raise NotHereError("no session could be made: the model has control flow nodes")

    card.refuses = refuse
    with card.open() as session:
        assert session.notes == ["no CUDA graphs: no session could be made: the model has control flow nodes"]
        assert_plain(card, session)


def test_a_capture_that_fails_leaves_nothing_behind(card: Card) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    card.replay = fail
    with card.open() as session:
        assert session.notes == [
            "no CUDA graphs: CUDA failure 900: operation not permitted when stream is capturing"
        ]
        assert_plain(card, session)
        assert [memory.closed for memory in card.memories] == [False, False, True, True]
        until(no_graph_thread)


def test_graphs_that_give_something_else_are_not_taken(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorRT's provider would at a second size of batch, or two places with one number."""
    monkeypatch.setattr("streamd.models.capture.run_options", lambda _: Numbered())
    with card.open() as session:
        assert session.notes == ["no CUDA graphs: a batch of 2 gives other outputs than without"]
        assert_plain(card, session)


class Numbered:
    """Options for a run that always name the same graph."""

    def get_run_config_entry(self, key: str) -> str:
        assert key == "gpu_graph_id"
        return "1"


def test_without_memory_for_it_there_are_none(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def memory(_: int) -> FarMemory:
        nonlocal made
        made += 1
        if made > 2:
            raise LibraryError("no 1234 bytes of GPU memory (CUDA error 2)")
        return FarMemory()

    monkeypatch.setattr(session_module, "CudaMemory", memory)
    with card.open() as session:
        assert session.notes == ["no CUDA graphs: no 1234 bytes of GPU memory (CUDA error 2)"]
        assert_plain(card, session)


def test_outputs_that_only_a_run_tells_have_none(card: Card, tmp_path: Path) -> None:
    path = counting_model(tmp_path / "c.onnx", [1, "objects", 4])
    source = Source(path, read_graph(path))
    with open_on_gpu(source, OPTIONS, [], lambda _: None, [cuda_provider(OPTIONS)]) as session:
        assert session.notes[-1] == "no CUDA graphs: its inputs and outputs are not bound to fixed memory"
        assert not session.graphs


def test_a_copy_that_fails_in_service_is_no_reason_to_run_unbound(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run would capture, or replay what it was not asked; the process ends, and a new one starts."""

    def fail() -> None:
        raise LibraryError("a copy failed (CUDA error 700)")

    with card.open() as session:
        monkeypatch.setattr(card.memories[2], "finish", fail)
        with pytest.raises(ProviderError, match="a copy failed"):
            card.sees(session, 0, 1)


def test_on_the_cpu_it_is_said_to_do_nothing(tmp_path: Path) -> None:
    path = make_number_model(tmp_path / "m.onnx")
    options = replace(OPTIONS, providers=("cpu",))
    with open_session(path, describe(path).graph, options) as session:
        assert session.notes == ["runtime.cuda_graph does nothing on the CPU"]


# -- on a GPU ------------------------------------------------------------------------------------------


def same_with_and_without(path: Path, options: RuntimeOptions) -> None:
    model = describe(path)
    opened = partial(open_session, path, model.graph, contract=model.contract)
    with opened(replace(options, cuda_graph=False)) as plain, opened(options) as session:
        assert session.graphs, session.notes

        def body(place: int) -> None:
            for step in range(100):
                numbers = [place * 1000 + step + row for row in range(step % session.batch + 1)]
                detector = Detector(model, session, session.batch)
                outputs = detector.run([picture_of(number) for number in numbers], place)
                assert seen_by(detector, outputs, len(numbers)) == numbers

        with ThreadPoolExecutor(session.runs) as threads:
            for done in [threads.submit(body, place) for place in range(session.runs)]:
                done.result()
        assert plain.graph.input.dtype == session.graph.input.dtype == np.uint8


@pytest.mark.gpu
@needs_gpu
def test_cuda_replays_what_it_is_given(tmp_path: Path) -> None:
    same_with_and_without(make_number_model(tmp_path / "m.onnx"), OPTIONS)


@pytest.mark.tensorrt
@needs_gpu
def test_tensorrt_replays_what_it_is_given(tmp_path: Path) -> None:
    try:
        libraries.load(libraries.TENSORRT)
    except libraries.LibraryError as error:
        pytest.skip(f"tensorrt: {error}")
    options = replace(OPTIONS, providers=("tensorrt",), batch_limit=1, cache_dir=tmp_path / "cache")
    same_with_and_without(make_number_model(tmp_path / "m.onnx"), options)
