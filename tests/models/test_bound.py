"""Runs in fixed memory give what plain runs give, for every head and form, also from the second run on."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamd.core.errors import ModelError, ProviderError
from streamd.models import libraries, memory
from streamd.models.bound import fixed_outputs
from streamd.models.chain import open_session
from streamd.models.contract import Array, Graph
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.graph import read_graph
from streamd.models.libraries import LibraryError
from streamd.models.memory import CudaMemory, DeviceArray, Memory
from streamd.models.running import Session, warmed
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.models.shapes import black, feeds
from tests.models.test_detector import WHOLE, number_in, picture_of
from tests.models.test_heads import FORMS, LAYOUTS
from tests.models.test_session import needs_gpu
from tests.support.far_memory import FarMemory, PretendedRuntime
from tests.support.number_model import HEIGHT, LABELS, WIDTH, make_number_model
from tests.support.reference_data import folder, needs_data
from tests.support.tiny_models import Tiny

Made = Callable[[], Memory] | None


def ort_session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def opened(path: Path, graph: Graph, made: Made, limit: int = 5, tell: Any = lambda _: None) -> Session:
    return warmed(ort_session(path), graph, limit, made, [], tell)


def pictures(graph: Graph, rows: int, seed: int) -> Array:
    values = np.random.default_rng(seed).integers(0, 256, (rows, *graph.input.picture))
    return values.astype(graph.input.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("made", [None, FarMemory], ids=["host", "device"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_head_reads_the_same(tmp_path: Path, layout: str, form: str, made: Made) -> None:
    head, outputs, extra = LAYOUTS[layout]
    tiny = Tiny(outputs(), **{**extra, **FORMS[form]})
    model = describe(
        tiny.write(tmp_path), head=head, size=(64, 96) if "size" in form else None, input="yolox"
    )
    plain = ort_session(model.path)
    with opened(model.path, model.graph, made) as session:
        assert (not session._bounds) == (fixed_outputs(model.graph) is None)
        for step, rows in enumerate({session.rows(count) for count in range(1, session.batch + 1)}):
            fed = feeds(model.graph, pictures(model.graph, rows, step))
            for one, other in zip(session.run(fed), plain.run(None, fed), strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("made", [None, FarMemory], ids=["host", "device"])
@pytest.mark.parametrize("fixed", [None, 1, 4])
def test_each_run_sees_its_own_pictures(tmp_path: Path, fixed: int | None, made: Made) -> None:
    """From batch to batch other pictures, in other numbers: nothing stale, nothing of a row beyond."""
    model = describe(make_number_model(tmp_path / "m.onnx", batch=fixed or "n"))
    rules = rules_for(model.labels)
    with opened(model.path, model.graph, made) as session:
        assert session._bounds
        detector = Detector(model, session, session.batch)
        number = 1
        for count in [1, 5, 3, 1, 2, 4, 1, 5] if fixed is None else [1, fixed, 1]:
            numbers = [number := (number * 37 + 11) % 60000 for _ in range(count)]
            outputs = detector.run([picture_of(one) for one in numbers])
            for row, wanted in enumerate(numbers):
                seen = detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules)
                assert number_in([LABELS[int(i)] for i in seen.class_ids]) == wanted


def test_batches_are_padded_to_few_sizes_on_a_gpu_only(tmp_path: Path) -> None:
    path = make_number_model(tmp_path / "m.onnx")
    graph = read_graph(path)
    with opened(path, graph, FarMemory, limit=12) as session:
        assert session.buckets == (1, 2, 4, 8, 12)
        assert [session.rows(count) for count in (1, 2, 3, 5, 8, 9, 12)] == [1, 2, 4, 8, 8, 12, 12]
        assert session.staging() is not None
        assert session.staging().shape == (12, 3, HEIGHT, WIDTH)
    with opened(path, graph, None, limit=12) as session:
        assert [session.rows(count) for count in (1, 3, 12)] == [1, 3, 12]
        assert session.staging() is None
    path = make_number_model(tmp_path / "fixed.onnx", batch=4)
    with opened(path, read_graph(path), FarMemory) as session:
        assert (session.buckets, session.rows(1)) == ((4,), 4)


def test_pictures_put_into_the_staging_memory_are_not_copied_again(tmp_path: Path) -> None:
    """Only what a run needs travels: its rows, as the model takes them, and its outputs back."""
    path = make_number_model(tmp_path / "m.onnx")
    graph = read_graph(path)
    far = FarMemory()
    with opened(path, graph, lambda: far) as session:
        assert session.staging() is not None
        session.staging()[:2] = pictures(graph, 2, 1)
        before = far.copied
        (output,) = session.run({"images": session.staging()[:2]})
        assert far.copied - before == session.staging()[:2].nbytes + output.nbytes
        kept = output.copy()
        (again,) = session.run({"images": session.staging()[:2].copy()})
        assert again.ctypes.data == output.ctypes.data, "the same memory"
        np.testing.assert_array_equal(again, kept)
    assert far.closed
    np.testing.assert_array_equal(again, kept, "what was returned outlives the session")
    with pytest.raises(ProviderError, match="closed"):
        session.run({"images": kept})


@pytest.mark.parametrize("fixed", [None, 4])
def test_pictures_on_the_device_and_here_share_a_batch(tmp_path: Path, fixed: int | None) -> None:
    """Every mixture of five rows, each batch other numbers: what lies on the device is copied on it."""
    model = describe(make_number_model(tmp_path / "m.onnx", batch=fixed or "n"))
    rules = rules_for(model.labels)
    far = FarMemory()
    with opened(model.path, model.graph, lambda: far) as session:
        assert session.device == 0
        detector = Detector(model, session, session.batch)
        number = 1
        for mixture in itertools.product([False, True], repeat=fixed or 5):
            numbers = [number := (number * 37 + 11) % 60000 for _ in mixture]
            found: list[Array | DeviceArray] = []
            for one, there in zip(numbers, mixture, strict=True):
                found.append(on_device(picture_of(one)) if there else picture_of(one))
            copied, moved = far.copied, far.moved
            outputs = detector.run(found)
            size = picture_of(0).nbytes
            rows = session.rows(len(mixture))
            assert far.moved - moved == sum(mixture) * size
            assert far.copied - copied == (rows - sum(mixture)) * size + sum(one.nbytes for one in outputs)
            for row, wanted in enumerate(numbers):
                seen = detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules)
                assert number_in([LABELS[int(i)] for i in seen.class_ids]) == wanted


def on_device(picture: Array) -> DeviceArray:
    kept = picture.copy()
    return DeviceArray(kept.ctypes.data, kept.shape, kept.dtype, kept.copy)


def test_pictures_on_the_device_come_back_where_the_session_cannot_take_them(tmp_path: Path) -> None:
    """One bound to host memory, one without fixed memory, and one that loses it in mid-run."""
    model = describe(make_number_model(tmp_path / "m.onnx"))
    rules = rules_for(model.labels)
    for way in ("bound here", "not bound", "fails"):
        with opened(model.path, model.graph, FarMemory if way == "fails" else None) as session:
            if way == "not bound":
                session.allow(2)
            if way == "fails":
                session._bounds[0].run = failing  # type: ignore[method-assign]
            detector = Detector(model, session, session.batch)
            for _ in range(2):
                outputs = detector.run([picture_of(7), on_device(picture_of(8)), on_device(picture_of(9))])
                for row, wanted in enumerate([7, 8, 9]):
                    seen = detector.read(outputs, row, WHOLE, (WIDTH, HEIGHT), rules)
                    assert number_in([LABELS[int(i)] for i in seen.class_ids]) == wanted
            detector.run([on_device(picture_of(8))])
            assert session.device is None


def failing(feeds: object, there: object) -> list[Array]:
    raise LibraryError("a copy failed")


def test_a_picture_of_another_form_on_the_device_is_one_line(tmp_path: Path) -> None:
    path = make_number_model(tmp_path / "m.onnx")
    with opened(path, read_graph(path), FarMemory) as session:
        batch = np.zeros((1, 3, HEIGHT, WIDTH), np.uint8)
        with pytest.raises(ModelError, match=r"on the GPU is uint8 \[3, 64, 1\], wanted uint8 \["):
            session.run({"images": batch}, 0, {0: on_device(np.zeros((3, HEIGHT, 1), np.uint8))})


def test_feeds_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    path = make_number_model(tmp_path / "m.onnx")
    with opened(path, read_graph(path), FarMemory) as session:
        for fed, words in (
            ({}, "fed are no inputs, wanted images"),
            (
                {"images": np.zeros((3, 3, HEIGHT, WIDTH), np.uint8)},
                "a batch of 3, where only 1, 2, 4, 5 are",
            ),
            (
                {"images": np.zeros((1, 3, HEIGHT, 1), np.uint8)},
                r"fed uint8 \[1, 3, 64, 1\], wanted uint8 \[",
            ),
            ({"images": np.zeros((1, 3, HEIGHT, WIDTH), np.float32)}, r"fed float32 \[1, 3, 64, 128\]"),
        ):
            with pytest.raises(ModelError, match=words):
                session.run(fed)
        assert session._bounds
        session.run(black(session.graph, 1))
    with opened(path, read_graph(path), None, limit=2) as session:
        with pytest.raises(ModelError, match="a batch of 3, where 2 is the most"):
            session.run(black(session.graph, 3))
        with pytest.raises(ModelError, match="no picture: the input 'images' is not fed"):
            session.run({})


def counting_model(path: Path, declared: list[int | str]) -> Path:
    """Its output has as many rows as the picture has values above 0, whatever is `declared`."""
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("found", TensorProto.INT64, declared)
    nodes = [
        helper.make_node("NonZero", ["images"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["rows", "first"], ["found"]),
    ]
    first = numpy_helper.from_array(np.array([0]), "first")
    graph = helper.make_graph(nodes, "g", [picture], [output], [first])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("made", [None, FarMemory], ids=["host", "device"])
def test_outputs_that_only_a_run_tells_are_not_bound(tmp_path: Path, made: Made) -> None:
    path = counting_model(tmp_path / "m.onnx", [1, "objects", 4])
    graph = read_graph(path)
    assert fixed_outputs(graph) is None
    with opened(path, graph, made) as session:
        assert not session._bounds
        assert session.notes == (
            ["its outputs have no size that is known beforehand: no page-locked memory"] if made else []
        )
        for count in (3, 7):
            picture = np.zeros((1, 3, 8, 8), np.float32)
            picture.ravel()[:count] = 1
            assert session.run({"images": picture})[0].shape == (1, count, 4)


@pytest.mark.parametrize("made", [None, FarMemory], ids=["host", "device"])
def test_a_size_that_is_declared_and_not_kept_costs_no_result(tmp_path: Path, made: Made) -> None:
    """A black picture gives what was declared, others do not: the runs go on without fixed memory."""
    path = counting_model(tmp_path / "m.onnx", [1, "objects", 4])
    graph = read_graph(path)
    lying = dataclasses.replace(graph, outputs=(dataclasses.replace(graph.outputs[0], shape=(1, 2, 4)),))
    told: list[str] = []
    seen = np.zeros((1, 3, 8, 8), np.float32)
    seen.ravel()[:2] = 1
    with opened(path, lying, made, tell=told.append) as session:
        assert not session._bounds, "a black picture has no rows here"
    session = warmed(ort_session(path), graph, 1, made, [], told.append)
    from streamd.models.bound import HostBound

    session._bounds = [HostBound(session._session, lying, fixed_outputs(lying) or [], 1)]
    assert session.run({"images": seen})[0].shape == (1, 2, 4)
    assert told == []
    seen.ravel()[:9] = 1
    assert session.run({"images": seen})[0].shape == (1, 9, 4)
    assert len(told) == 1
    assert told[0].startswith("outputs are allocated for each run from now on: ")
    assert not session._bounds


def test_a_first_dimension_of_another_name_is_no_batch(tmp_path: Path) -> None:
    graph = read_graph(make_number_model(tmp_path / "m.onnx"))
    (output,) = fixed_outputs(graph) or []
    assert (output.name, output.picture) == (graph.outputs[0].name, (32, 6))
    renamed = dataclasses.replace(graph.outputs[0], shape=("objects", 32, 6))
    assert fixed_outputs(dataclasses.replace(graph, outputs=(renamed,))) is None
    free = dataclasses.replace(graph.outputs[0], shape=("n", "m", 6))
    assert fixed_outputs(dataclasses.replace(graph, outputs=(free,))) is None


@pytest.mark.long
@needs_data
@pytest.mark.parametrize("made", [None, FarMemory], ids=["host", "device"])
def test_real_models_give_the_same(made: Made) -> None:
    root = folder()
    assert root is not None
    bound = 0
    for path in sorted((root / "models").glob("*.onnx")):
        model = describe(path)
        plain = ort_session(path)
        with opened(path, model.graph, made, limit=2) as session:
            bound += bool(session._bounds)
            for seed in range(2):
                fed = feeds(model.graph, pictures(model.graph, session.rows(1), seed))
                for one, other in zip(session.run(fed), plain.run(None, fed), strict=True):
                    np.testing.assert_array_equal(one, other, err_msg=path.name)
    assert bound >= 10


# -- CUDA's own functions ------------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> PretendedRuntime:
    """libcudart in place of which the C library's memory stands: there is no GPU to be had here."""
    runtime = PretendedRuntime()
    monkeypatch.setattr(memory, "cuda_runtime", lambda: runtime)
    return runtime


def test_cuda_memory_is_used_as_the_runtime_wants_and_given_back(pretended: PretendedRuntime) -> None:
    with CudaMemory(0) as made:
        array = made.host((2, 3), np.dtype(np.float16))
        assert array.shape == (2, 3)
        assert not array.any()
        address = made.reserve(array.nbytes)
        array[...] = np.arange(6).reshape(2, 3)
        back = made.host((2, 3), np.dtype(np.float16))
        made.upload(array, address)
        made.download(address, back)
        made.finish()
        np.testing.assert_array_equal(back, array)
        with pytest.raises(LibraryError, match=r"a copy could not be queued \(CUDA error 1\)"):
            made.upload(array, 4096)
    assert not pretended.device
    assert not pretended.streams
    assert not pretended.default_awaited
    view = back[1:]
    del array, back
    gc.collect()
    assert len(pretended.host) == 1, "a view keeps its memory"
    assert view.tolist() == [[3, 4, 5]]
    del view
    gc.collect()
    assert not pretended.host


def test_arrays_on_the_gpu_are_freed_with_their_last_reference(pretended: PretendedRuntime) -> None:
    with CudaMemory(0) as made:
        one, other = (made.array((2, 3), np.dtype(np.float16)) for _ in range(2))
        source = made.host((2, 3), np.dtype(np.float16))
        source[...] = np.arange(6).reshape(2, 3)
        made.upload(source, one.address)
        made.copy(one, other.address)
        made.finish()
        made.await_decoders()
        assert pretended.default_awaited == 1
        pretended.refuse = {"device"}
        with pytest.raises(LibraryError, match=r"no 4 bytes of GPU memory \(CUDA error 2\)"):
            made.array((4,), np.dtype(np.uint8))
    assert len(pretended.device) == 2, "they outlive what made them"
    fetched = other.fetch()
    del one, other
    gc.collect()
    assert not pretended.device
    np.testing.assert_array_equal(fetched, source)
    assert not pretended.streams
    forgotten = CudaMemory(0)
    assert pretended.streams
    del forgotten
    gc.collect()
    assert not pretended.streams, "a letterbox that is made anew with each connection leaves nothing behind"


def test_a_gpu_that_is_not_there_or_full_is_a_line(pretended: PretendedRuntime) -> None:
    with pytest.raises(LibraryError, match=r"there is no such GPU \(CUDA error 101\)"):
        CudaMemory(3)
    pretended.refuse = {"host", "device"}
    with CudaMemory(0) as made:
        with pytest.raises(LibraryError, match=r"no 12 bytes of page-locked memory \(CUDA error 2\)"):
            made.host((3, 4), np.dtype(np.uint8))
        with pytest.raises(LibraryError, match=r"no 12 bytes of GPU memory \(CUDA error 2\)"):
            made.reserve(12)


@pytest.mark.parametrize("lacking", ["host", "device"])
def test_without_memory_the_model_runs_all_the_same(
    tmp_path: Path, pretended: PretendedRuntime, lacking: str
) -> None:
    pretended.refuse = {lacking}
    path = make_number_model(tmp_path / "m.onnx")
    with opened(path, read_graph(path), lambda: CudaMemory(0)) as session:
        (note,) = session.notes
        assert note.startswith("inputs and outputs are not bound to fixed memory: no ")
        session.run(black(session.graph, 4))
    gc.collect()
    left = pretended.host | pretended.device | pretended.streams
    assert not left, "nothing is left behind"


# -- on a GPU ------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
def test_cuda_memory_holds_what_it_was_given() -> None:
    libraries.load(libraries.CUDA)
    with CudaMemory(0) as made:
        there = made.host((1 << 20,), np.dtype(np.uint8))
        back = made.host((1 << 20,), np.dtype(np.uint8))
        address = made.reserve(there.nbytes)
        for seed in range(20):
            there[...] = np.random.default_rng(seed).integers(0, 256, len(there))
            made.upload(there, address)
            made.download(address, back)
            made.finish()
            np.testing.assert_array_equal(there, back)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("uint8", [True, False], ids=["uint8", "float32"])
def test_cuda_sees_each_batch_bit_for_bit(tmp_path: Path, uint8: bool) -> None:
    """Hundreds of batches of other pictures and sizes, from two threads: a copy out of order shows."""
    tiny = Tiny({"output0": np.zeros((84, 1), np.float32)}, height=640, width=640)
    path = tiny.write(tmp_path)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Identity", ["images"], ["seen"]))
    model.graph.output.append(helper.make_tensor_value_info("seen", TensorProto.FLOAT, ["n", 3, 640, 640]))
    onnx.save(model, path)
    graph = read_graph(path)
    chosen = frozenset({"cuda"}) if uint8 else frozenset()
    options = RuntimeOptions(("cuda",), False, "fp32", 0, Path("/none"), 4, uint8_input=chosen)  # type: ignore[arg-type]
    contract = describe(path, head="yolo", input="yolox").contract
    with open_session(path, graph, options, contract=contract) as session:
        assert session.staging() is not None
        assert session.graph.input.dtype == (np.uint8 if uint8 else np.float32)
        assert session.runs == 2

        def body(place: int) -> None:
            rng = np.random.default_rng(place)
            staging = session.staging(place)
            assert staging is not None
            for step in range(200):
                rows = session.rows(step % 4 + 1)
                batch = rng.integers(0, 256, (rows, *graph.input.picture)).astype(session.graph.input.dtype)
                staging[:rows] = batch
                seen = session.run({session.graph.input.name: staging[:rows]}, place)[1]
                np.testing.assert_array_equal(seen, batch)

        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(body, place) for place in range(2)]:
                done.result()
