"""Runs in fixed memory give what plain runs give, for every head and form, also from the second run on."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from streamd.core.errors import ModelError, ProviderError
from streamd.models.bound import fixed_outputs
from streamd.models.chain import open_session
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.graph import read_graph
from streamd.models.running import warmed
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from streamd.models.shapes import black, feeds
from tests.models.test_detector import WHOLE, number_in, picture_of
from tests.models.test_heads import FORMS, LAYOUTS
from tests.support.bound_sessions import Made, counting_model, opened, ort_session, pictures
from tests.support.far_memory import FarMemory
from tests.support.gpu import needs_gpu
from tests.support.number_model import HEIGHT, LABELS, WIDTH, make_number_model
from tests.support.reference_data import folder, needs_data
from tests.support.tiny_models import Tiny


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
