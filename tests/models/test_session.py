"""Sessions on tiny graphs made on the spot: the chain, its refusals, the warm-up, and silence on stderr."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec._core
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from streamd.core.errors import MissingFileError, ModelError, ProviderError
from streamd.models import chain, gpu, libraries
from streamd.models import session as session_module
from streamd.models.assignment import AssignmentError, judge
from streamd.models.chain import open_session
from streamd.models.contract import Graph, InputShape, Tensor
from streamd.models.creation import NotHereError, Providers, Source
from streamd.models.engines import Tell
from streamd.models.presets import PRESETS
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions

ROOT = Path(__file__).parents[2]


def graph(batch: int | None, *further: Tensor) -> Graph:
    shape = InputShape("images", 8, 8, True, np.dtype(np.float32), batch)
    picture = Tensor("images", "float32", (batch or "n", 3, 8, 8))
    outputs = (Tensor("double", "float32", (None,)), Tensor("plain", "float32", (None,)))
    return Graph((picture, *further), outputs, {}, shape)


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], batch: int | None, *further: onnx.ValueInfoProto
) -> Path:
    """A model with outputs in another order than its graph's, whose last is the picture itself."""
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch or "n", 3, 8, 8])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("double", "plain")]
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("fixed", TensorProto.INT64, [4], [1, 3, 8, 8]),
        helper.make_tensor("nine", TensorProto.INT64, [1], [9]),
    ]
    made = helper.make_graph(nodes, "g", [picture, *further], outputs, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


PLAIN = helper.make_node("Identity", ["images"], ["plain"])
GOOD = [helper.make_node("Mul", ["images", "two"], ["double"]), PLAIN]
ONLY_ONE = [
    helper.make_node("Reshape", ["images", "fixed"], ["flat"]),
    helper.make_node("Mul", ["flat", "two"], ["double"]),
    PLAIN,
]
NEVER = [helper.make_node("Gather", ["images", "nine"], ["double"], axis=1), PLAIN]


def options(
    *providers: str, fallback: bool = True, batch_limit: int = 4, cache: Path = Path("/nowhere")
) -> RuntimeOptions:
    return RuntimeOptions(  # type: ignore[arg-type]
        providers, fallback, "fp16", 0, cache, batch_limit, cpu_runs=None, cpu_batch_limit=batch_limit
    )


def has_gpu() -> bool:
    try:
        libraries.load(libraries.CUDA)
        gpu.read_gpu(0)
    except libraries.LibraryError:
        return False
    return True


needs_no_gpu = pytest.mark.skipif(has_gpu(), reason="gpu: there is one here")
needs_gpu = pytest.mark.skipif(not has_gpu(), reason="gpu: no NVIDIA GPU with CUDA here")


def test_it_runs_and_gives_outputs_in_the_graphs_order(tmp_path: Path) -> None:
    with open_session(save(tmp_path / "m.onnx", GOOD, None), graph(None), options("cpu")) as session:
        assert session.provider == "CPUExecutionProvider"
        assert session.providers == ("CPUExecutionProvider",)
        assert (session.batch, session.notes) == (4, [])
        assert session.warm_ms > 0
        picture = np.random.default_rng(1).random((3, 3, 8, 8), np.float32)
        double, plain = session.run({"images": picture})
        np.testing.assert_array_equal(double, picture * 2)
        np.testing.assert_array_equal(plain, picture)
    with pytest.raises(ProviderError, match="closed"):
        session.run({"images": picture})


def test_a_fixed_batch_is_the_sessions_batch(tmp_path: Path) -> None:
    with open_session(save(tmp_path / "m.onnx", GOOD, 2), graph(2), options("cpu")) as session:
        assert session.batch == 2


def test_a_model_that_only_claims_to_take_any_batch_gets_what_it_can(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", ONLY_ONE, None)
    with open_session(model, graph(None), options("cpu")) as session:
        assert session.batch == 1
        assert len(session.notes) == 2
        assert session.notes[0].startswith("a batch of 4 does not run")
        session.run({"images": np.zeros((1, 3, 8, 8), np.float32)})


def test_on_the_cpu_only_a_model_that_takes_next_to_nothing_runs_in_batches(tmp_path: Path) -> None:
    many = [helper.make_node("Mul", ["images", "two"], ["step0"])]
    many += [helper.make_node("Sin", [f"step{n}"], [f"step{n + 1}"]) for n in range(2000)]
    slow = [*many, helper.make_node("Identity", ["step2000"], ["double"]), PLAIN]
    given = replace(options("cpu"), cpu_batch_limit=None)
    with open_session(save(tmp_path / "fast.onnx", GOOD, None), graph(None), given) as session:
        assert session.batch == 4
    with open_session(save(tmp_path / "slow.onnx", slow, None), graph(None), given) as session:
        assert session.batch == 1
    with open_session(
        save(tmp_path / "fast.onnx", GOOD, None), graph(None), replace(given, batch_limit=1)
    ) as session:
        assert session.batch == 1


def test_further_inputs_are_warmed_with_a_plausible_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["sizes"], ["size"], keepdims=0),
        helper.make_node("Cast", ["size"], ["scale"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["images", "scale"], ["double"]),
        PLAIN,
    ]
    sizes = helper.make_tensor_value_info("sizes", TensorProto.INT64, ["n", 2])
    model = save(tmp_path / "m.onnx", nodes, None, sizes)
    described = graph(None, Tensor("sizes", "int64", ("n", 2)))
    with open_session(model, described, options("cpu")) as session:
        assert session.batch == 4


@needs_no_gpu
def test_the_chain_ends_on_the_cpu_and_says_why(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with open_session(model, graph(None), options("tensorrt", "cuda", "cpu")) as session:
        assert session.provider == "CPUExecutionProvider"
        assert len(session.notes) == 2
        for provider, note in zip(("tensorrt", "cuda"), session.notes, strict=True):
            assert note.startswith(f"{provider} does not run here: lib")
            assert " is missing (" in note


@needs_no_gpu
@pytest.mark.parametrize("first", ["tensorrt", "cuda"])
def test_without_fallback_the_first_provider_or_none(tmp_path: Path, first: str) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with pytest.raises(ProviderError) as caught:
        open_session(model, graph(None), options(first, "cpu", fallback=False))
    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert message.startswith(f"{first} does not run here: libcuda.so.1 is missing (install NVIDIA's driver")
    assert message.endswith("runtime.fallback is false, so nothing else is tried")
    assert "\n" not in message


@needs_no_gpu
def test_a_chain_without_the_cpu_never_ends_there(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with pytest.raises(ProviderError, match=r"tensorrt does not .*; cuda does not .* names no other"):
        open_session(model, graph(None), options("tensorrt", "cuda"))


def test_without_fallback_the_cpu_runs_when_it_is_first(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with open_session(model, graph(None), options("cpu", "cuda", fallback=False)) as session:
        assert session.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("providers", [("cpu",), ("tensorrt", "cuda", "cpu")])
def test_a_model_that_fails_at_its_first_run_is_the_models_fault(
    tmp_path: Path, providers: tuple[str, ...]
) -> None:
    model = save(tmp_path / "m.onnx", NEVER, None)
    with pytest.raises(ModelError) as caught:
        open_session(model, graph(None), options(*providers))
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.startswith(f"{model}: it loads but fails at its first run: ")
    assert "out of data bounds" in message
    assert "\n" not in message
    assert "ONNXRuntimeError" not in message


BROKEN = {"text": b"not a model", "empty": b"", "zeros": bytes(999)}


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "zeros", "unknown operator", "bad types"])
def test_an_unusable_file_is_the_models_fault(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path / "m.onnx", GOOD, None)
    content = path.read_bytes()
    if damage == "unknown operator":
        save(path, [helper.make_node("Nonsense", ["images"], ["double"]), PLAIN], None)
    elif damage == "bad types":
        save(path, [helper.make_node("Mul", ["images", "nine"], ["double"]), PLAIN], None)
    else:
        path.write_bytes(BROKEN.get(damage, content[: len(content) // 2]))
    with pytest.raises(ModelError) as caught:
        open_session(path, graph(None), options("cpu"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ONNX Runtime does not take the model: ")


def test_a_model_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        open_session(tmp_path / "gone.onnx", graph(None), options("cpu"))


def test_wrong_feeds_are_one_line(tmp_path: Path) -> None:
    with open_session(save(tmp_path / "m.onnx", GOOD, None), graph(None), options("cpu")) as session:
        for feeds in ({}, {"images": np.zeros((1, 3, 9, 9), np.float32)}, {"images": np.zeros((1, 3, 8, 8))}):
            with pytest.raises(ModelError) as caught:
                session.run(feeds)
            assert "\n" not in str(caught.value)


def test_who_runs_what_is_judged_by_where_the_work_is() -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    assert judge({cuda: ["Conv", "Relu"]}, cuda) == []
    assert judge({cpu: ["Conv"]}, cpu) == []
    (remark,) = judge({cuda: ["Conv"], cpu: ["Gather", "Concat", "Gather"]}, cuda)
    assert (
        remark
        == "CUDAExecutionProvider leaves 3 of the model's nodes to CPUExecutionProvider: Concat, Gather"
    )
    with pytest.raises(AssignmentError, match="leaves FusedConv on the CPU"):
        judge({cuda: ["MatMul"], cpu: ["FusedConv", "Gather"]}, cuda)
    with pytest.raises(AssignmentError, match="none of the model's 2 nodes"):
        judge({cpu: ["Mul", "Add"]}, cuda)


SILENT = """
import sys
from pathlib import Path
from tests.models.test_session import GOOD, NEVER, graph, options, save
from streamd.core.errors import ModelError
from streamd.models.chain import open_session
from streamd.models.creation import Source, create
from streamd.models.session import NAMES
folder = Path(sys.argv[1])
order = options("tensorrt", "cuda", "cpu", cache=folder)
with open_session(save(folder / "good.onnx", GOOD, None), graph(None), order) as session:
    import numpy
    session.run({"images": numpy.zeros((2, 3, 8, 8), numpy.float32)})
    for feeds in ({}, {"images": numpy.zeros((1, 1), numpy.float32)}):
        try:
            session.run(feeds)
        except ModelError:
            pass
for name in NAMES.values():  # past the check of the libraries, where ONNX Runtime itself complains
    try:
        create(Source(folder / "good.onnx", graph(None)), [(name, {})], 1, {})
    except Exception:
        pass
(folder / "bad.onnx").write_bytes(b"nonsense")
for bad in (save(folder / "never.onnx", NEVER, None), folder / "bad.onnx"):
    try:
        open_session(bad, graph(None), order)
    except ModelError:
        pass
"""


@pytest.mark.slow
def test_nothing_of_onnx_runtime_reaches_the_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT, str(tmp_path)], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert done.stderr == b""
    assert done.stdout == b""


@pytest.mark.slow
def test_importing_the_session_loads_neither_onnx_nor_a_gpu_library() -> None:
    code = "import sys, streamd.models.session; print('onnx' in sys.modules, 'libcud' in open('/proc/self/maps').read())"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_library_is_named_with_what_mends_it(tmp_path: Path) -> None:
    odd = libraries.Library("libnowhere.so.7", "some/wheel")
    with pytest.raises(libraries.LibraryError) as caught:
        libraries.load((odd,), tmp_path)
    assert str(caught.value) == 'libnowhere.so.7 is missing (pip install "streamd[tensorrt]")'


def test_a_library_that_cannot_be_loaded_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "libbroken.so.1").write_bytes(b"\x7fELF, but no more")
    with pytest.raises(libraries.LibraryError, match=r"^libbroken.so.1 cannot be loaded: .*file too short"):
        libraries.load((libraries.Library("libbroken.so.1", "some"),), tmp_path)


def test_libraries_are_found_where_wheels_put_them(tmp_path: Path) -> None:
    placed = tmp_path / "some" / "libstreamdhere.so.1"
    placed.parent.mkdir()
    shutil.copy(msgspec._core.__file__, placed)  # any shared library will do
    libraries.load((libraries.Library(placed.name, "some"),), tmp_path)
    assert str(placed) in Path("/proc/self/maps").read_text()


@needs_no_gpu
def test_without_a_driver_the_gpu_is_a_clear_line() -> None:
    with pytest.raises(libraries.LibraryError, match=r"libcuda.so.1 is missing \(install NVIDIA's driver"):
        gpu.read_gpu(0)


CARD = gpu.Gpu("a card", "9.0", 132, 8 << 30, "580.1", 13000)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has all of NVIDIA's libraries and a GPU: what then refuses is ONNX Runtime."""
    monkeypatch.setattr(libraries, "load", lambda _: None)
    monkeypatch.setattr(libraries, "tensorrt_version", lambda: "10.13.0")
    monkeypatch.setattr(libraries, "cuda_runtime_version", lambda: 13000)
    monkeypatch.setattr(gpu, "read_gpu", lambda _: CARD)


@needs_no_gpu
@pytest.mark.usefixtures("pretended")
def test_onnx_runtimes_own_fallback_is_noticed(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    told: list[str] = []
    order = options("tensorrt", "cuda", "cpu", cache=tmp_path / "cache")
    with open_session(model, graph(None), order, told.append) as session:
        assert session.provider == "CPUExecutionProvider"
        tensorrt, cuda = session.notes
    assert tensorrt.startswith("tensorrt does not run here: no session could be made: ")
    assert "Please install TensorRT libraries" in tensorrt
    assert cuda == "cuda does not run here: ONNX Runtime made a session on CPUExecutionProvider instead"
    assert told == ["building the TensorRT engine of m.onnx; this takes minutes, the next start will not"]
    assert not list((tmp_path / "cache").glob("*/*.engine")), "a build that failed leaves no engine"


@pytest.mark.usefixtures("pretended")
def test_a_cache_that_cannot_be_written_is_a_reason_not_to_take_tensorrt(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = save(tmp_path / "m.onnx", GOOD, None)
    order = options("tensorrt", fallback=False, cache=tmp_path / "file")
    with pytest.raises(ProviderError, match=r"cache .* cannot be written: .*; set runtime\.cache_dir"):
        open_session(model, graph(None), order)


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
def tensorrt_of(pretended: None, monkeypatch: pytest.MonkeyPatch) -> PretendedTensorrt:
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


@needs_no_gpu
@pytest.mark.usefixtures("pretended")
def test_a_provider_that_does_not_run_the_uint8_input_runs_the_model_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the CPU in the place of CUDA, which refuses the joined model."""

    def pretend(
        source: Source, asked: RuntimeOptions, notes: list[str], tell: Tell, providers: Providers
    ) -> Session:
        if source.key:
            raise NotHereError("no uint8 here")
        return session_module.open_cpu(source, asked, notes, tell)

    monkeypatch.setattr(session_module, "open_on_gpu", pretend)
    model = save(tmp_path / "m.onnx", GOOD, None)
    order = options("cuda", fallback=False)
    with open_session(model, graph(None), order, contract=PRESETS["yolox"]) as session:
        assert session.graph.input.dtype == np.float32
        assert session.notes == ["cuda does not run it with a uint8 input: no uint8 here"]


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


def test_what_serves_in_front_of_an_awaited_provider_takes_pictures_in_its_form(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    for joining, form in ((frozenset({"tensorrt", "cuda"}), np.uint8), (frozenset({"cuda"}), np.float32)):
        order = dataclasses.replace(options("tensorrt", "cpu"), uint8_input=joining)
        rest = chain.meanwhile(order)
        assert rest is not None
        with open_session(model, graph(None), rest, contract=PRESETS["yolox"]) as session:
            assert session.provider == "CPUExecutionProvider"
            assert session.graph.input.dtype == form
    assert chain.meanwhile(dataclasses.replace(order, fallback=False)) is None


@needs_no_gpu
def test_nothing_is_awaited_of_a_provider_that_does_not_run_here(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    order = options("tensorrt", "cpu", cache=tmp_path / "cache")
    assert chain.awaited(model, graph(None), order) is None
    with pytest.raises(ProviderError, match=r"^tensorrt does not run here: libcuda.so.1 is missing \("):
        chain.build_engine(model, graph(None), order)


@pytest.mark.gpu
@needs_gpu
def test_cuda_runs_what_the_cpu_runs(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    picture = np.random.default_rng(1).random((2, 3, 8, 8), np.float32)
    with open_session(model, graph(None), options("cuda", fallback=False)) as session:
        assert session.provider == "CUDAExecutionProvider"
        np.testing.assert_allclose(session.run({"images": picture})[0], picture * 2)


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
