"""Sessions of TensorRT: when an engine is built, which one is loaded, and what is awaited."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from streamd.models import chain, gpu, libraries
from streamd.models import session as session_module
from streamd.models.assignment import AssignmentError
from streamd.models.chain import open_session
from streamd.models.creation import NotHereError, Providers, Source
from streamd.models.engines import Tell
from streamd.models.presets import PRESETS
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions
from tests.support.doubling import GOOD, PLAIN, graph, options, save
from tests.support.gpu import CARD, needs_gpu


class PretendedTensorrt:
    """In the place of TensorRT, which cannot be had here: the CPU, a file for an engine, a copy for a context model.

    opened: for each session its file's name, whether an engine was there, and whether it writes a context model.
    """

    def __init__(self) -> None:
        self.opened: list[tuple[str, bool, bool]] = []
        self.with_graphs: list[bool] = []
        self.keys: set[str] = set()
        self.fails: Callable[[Source, bool], Exception | None] = lambda source, writing: None
        self.writes_context = True

    def __call__(
        self,
        source: Source,
        asked: RuntimeOptions,
        notes: list[str],
        tell: Tell,
        providers: Providers,
    ) -> Session:
        assert [name for name, _ in providers] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
        given = providers[0][1]
        writing = given.get("trt_dump_ep_context_model") == "1"
        context = Path(given.get("trt_ep_context_file_path", "/none"))
        folder = (
            context.parent / given["trt_engine_cache_path"]
            if writing
            else Path(given["trt_engine_cache_path"])
        )
        self.opened.append((source.path.name, (folder / "m.engine").exists(), writing))
        self.with_graphs.append(asked.cuda_graph)
        self.keys.add(folder.name.partition(".")[0])
        if error := self.fails(source, writing):
            raise error
        (folder / "m.engine").write_bytes(b"engine")
        if writing and self.writes_context:
            context.write_bytes(source.path.read_bytes() if source.content is None else source.content)
        return session_module.open_cpu(source, asked, notes, tell)


@pytest.fixture
def tensorrt_of(pretended_card: None, monkeypatch: pytest.MonkeyPatch) -> PretendedTensorrt:
    given = PretendedTensorrt()
    monkeypatch.setattr(chain, "open_on_gpu", given)
    return given


BUILT = [("m.onnx", False, True), ("model_ctx.onnx", True, False)]


@pytest.mark.slow
def test_an_engine_is_built_kept_and_loaded_for_exactly_this_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensorrt_of: PretendedTensorrt
) -> None:
    order = options("tensorrt", fallback=False, cache=tmp_path / "cache")
    told: list[str] = []
    model = save(tmp_path / "m.onnx", GOOD, None)
    for _ in range(2):
        with open_session(model, graph(None), order, told.append) as session:
            assert session.notes == []
            picture = np.ones((1, 3, 8, 8), np.float32)
            np.testing.assert_array_equal(session.run({"images": picture})[0], picture * 2)
    assert tensorrt_of.opened == [*BUILT, *[("model_ctx.onnx", True, False)] * 2], "built once, loaded twice"
    assert len(tensorrt_of.keys) == 1
    assert len(told) == 1
    fp32 = dataclasses.replace(order, precision="fp32")
    larger = dataclasses.replace(order, batch_limit=8)
    for changed in (fp32, larger):
        open_session(model, graph(None), changed, told.append).close()
    monkeypatch.setattr(gpu, "read_gpu", lambda _: dataclasses.replace(CARD, driver="581.0"))
    open_session(model, graph(None), order, told.append).close()
    save(model, [helper.make_node("Add", ["images", "two"], ["double"]), PLAIN], None)
    open_session(model, graph(None), order, told.append).close()
    assert len(told) == 5, "precision, batches, driver and model each made another engine"
    for name in ("yolox", "ultralytics"):
        with open_session(model, graph(None), order, told.append, PRESETS[name]) as session:
            assert session.graph.input.dtype == np.uint8
    assert len(told) == 7, "and so did each uint8 input that was joined to it"


@pytest.mark.parametrize("fault", ["while written", "not written", "broken", "of a part of the graph"])
def test_an_engine_whose_context_model_is_of_no_use_is_used_without(
    tmp_path: Path, tensorrt_of: PretendedTensorrt, fault: str
) -> None:
    """Nothing is lost by trying: the build then ends as one without a context model does."""

    def fails(source: Source, writing: bool) -> Exception | None:
        if fault == "while written" and writing:
            return NotHereError("no session could be made: Resolve")
        if source.path.name == "model_ctx.onnx":
            if fault == "broken":
                source.path.write_bytes(b"rubbish")
            if fault == "of a part of the graph":
                return AssignmentError("ONNX Runtime gives it none of the model's 0 nodes")
        return None

    tensorrt_of.fails, tensorrt_of.writes_context = fails, fault != "not written"
    order = options("tensorrt", fallback=False, cache=tmp_path / "cache")
    model = save(tmp_path / "m.onnx", GOOD, None)
    told: list[str] = []
    for _ in range(2):
        with open_session(model, graph(None), order, told.append) as session:
            assert session.notes == []
    assert tensorrt_of.opened[-3:] == [
        ("m.onnx", fault != "while written", False),
        *[("m.onnx", True, False)] * 2,
    ]
    assert [line.partition(" ")[0] for line in told] == ["building", "no"]
    assert not list((tmp_path / "cache").glob("*/model_ctx.onnx"))


def test_a_context_model_that_loads_no_more_gives_way_to_the_engine_alone(
    tmp_path: Path, tensorrt_of: PretendedTensorrt
) -> None:
    order = options("tensorrt", fallback=False, cache=tmp_path / "cache")
    model = save(tmp_path / "m.onnx", GOOD, None)
    open_session(model, graph(None), order).close()
    tensorrt_of.fails = lambda source, writing: (
        NotHereError("no") if source.path.name == "model_ctx.onnx" else None
    )
    with open_session(model, graph(None), order) as session:
        assert session.notes == ["the engine's context model does not load, so the model is parsed: no"]
    assert tensorrt_of.opened[-2:] == [("model_ctx.onnx", True, False), ("m.onnx", True, False)]


def test_what_is_awaited_is_the_head_of_the_chain_when_it_lacks_an_engine(
    tmp_path: Path, tensorrt_of: PretendedTensorrt
) -> None:
    model, described = save(tmp_path / "m.onnx", GOOD, None), graph(None)
    order = options("tensorrt", "cuda", "cpu", cache=tmp_path / "cache")
    wanted = chain.awaited(model, described, order)
    assert wanted == dataclasses.replace(order, providers=("tensorrt",))
    assert chain.behind(order) == dataclasses.replace(order, providers=("cuda", "cpu"))
    assert chain.behind(dataclasses.replace(order, fallback=False)) is None
    assert chain.behind(wanted) is None
    for none in (("cpu",), ("cuda", "tensorrt", "cpu")):
        assert chain.awaited(model, described, dataclasses.replace(order, providers=none)) is None
    assert tensorrt_of.opened == [], "looking builds nothing"
    for built in (True, False):
        engine = chain.build_engine(model, described, order)
        assert (engine.built, engine.folder.parent) == (built, tmp_path / "cache")
    assert chain.awaited(model, described, order) is None
    (engine.folder / "m.engine").write_bytes(b"half an engine")
    assert chain.awaited(model, described, order) == wanted


def test_what_is_awaited_and_built_is_the_engine_of_the_uint8_input(
    tmp_path: Path, tensorrt_of: PretendedTensorrt
) -> None:
    """That of the model as it is, which may be there already, is of no use then."""
    model, described, contract = save(tmp_path / "m.onnx", GOOD, None), graph(None), PRESETS["yolox"]
    order = options("tensorrt", "cpu", cache=tmp_path / "cache")
    as_it_is = chain.build_engine(model, described, order)
    assert chain.awaited(model, described, order, contract) is not None
    engine = chain.build_engine(model, described, order, contract=contract)
    assert (as_it_is.joined, engine.joined, engine.built) == (False, True, True)
    assert engine.folder != as_it_is.folder
    assert chain.awaited(model, described, order, contract) is None
    before = len(tensorrt_of.opened)
    with open_session(model, described, order, contract=contract) as session:
        assert session.graph.input.dtype == np.uint8
        picture = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(1, 3, 8, 8)
        np.testing.assert_array_equal(session.run({"images_uint8": picture})[0], picture * np.float32(2))
    assert tensorrt_of.opened[before:] == [("model_ctx.onnx", True, False)]
    floats = dataclasses.replace(order, uint8_input=frozenset())
    assert chain.awaited(model, described, floats, contract) is None


def test_an_engine_is_the_same_with_and_without_cuda_graphs_and_built_without(
    tmp_path: Path, tensorrt_of: PretendedTensorrt
) -> None:
    """Only the session that is to serve captures any: builds are made in another process, or only tried."""
    order = replace(options("tensorrt", fallback=False, cache=tmp_path / "cache"), cuda_graph=True)
    model = save(tmp_path / "m.onnx", GOOD, None)
    open_session(model, graph(None), order).close()
    assert tensorrt_of.with_graphs == [False, False, True]
    assert not chain.build_engine(model, graph(None), order).built
    open_session(model, graph(None), replace(order, cuda_graph=False)).close()
    assert tensorrt_of.with_graphs[3:] == [False, False]
    assert len(tensorrt_of.keys) == 1


def test_an_engine_for_the_model_as_it_is_when_there_is_none_for_the_uint8_input(
    tmp_path: Path, tensorrt_of: PretendedTensorrt
) -> None:
    tensorrt_of.fails = lambda source, writing: NotHereError("no uint8 here") if source.key else None
    model, told = save(tmp_path / "m.onnx", GOOD, None), list[str]()
    order = options("tensorrt", "cpu", cache=tmp_path / "cache")
    engine = chain.build_engine(model, graph(None), order, told.append, PRESETS["yolox"])
    assert (engine.built, engine.joined) == (True, False)
    assert told[-1] == "tensorrt does not run it with a uint8 input: no uint8 here"


@pytest.mark.tensorrt
@needs_gpu
def test_tensorrt_builds_once(tmp_path: Path) -> None:
    try:
        libraries.load(libraries.TENSORRT)
    except libraries.LibraryError as error:
        pytest.skip(f"tensorrt: {error}")
    model = save(tmp_path / "m.onnx", GOOD, None)
    told: list[str] = []
    for _ in range(2):
        order = options("tensorrt", fallback=False, cache=tmp_path / "cache")
        with open_session(model, graph(None), order, told.append) as session:
            assert session.provider == "TensorrtExecutionProvider"
    assert len([line for line in told if line.startswith("building")]) == 1
