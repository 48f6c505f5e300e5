"""A uint8 input joined to a model: the model sees the values that the letterbox writes without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamd.core.errors import ModelError
from streamd.core.picture import Layout, Matrix, Picture
from streamd.models.chain import open_session
from streamd.models.contract import Array, Graph, InputContract
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.graph import read_graph
from streamd.models.preprocess import Letterbox
from streamd.models.presets import PRESETS
from streamd.models.prologue import PrologueError, join
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from tests.support import planted
from tests.support.reference_data import folder, needs_data
from tests.support.tiny_models import Tiny

ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def seen(
    path: Path,
    *,
    dtype: str = "float32",
    channels_first: bool = True,
    nodes: list[onnx.NodeProto] | None = None,
    constants: list[onnx.TensorProto] | None = None,
    opset: int = 13,
    ir: int = 8,
) -> Graph:
    """A model whose output is what it sees: its input, or what `nodes` make of it."""
    shape = ["n", 3, 48, 64] if channels_first else ["n", 48, 64, 3]
    picture = helper.make_tensor_value_info("images", ELEMENTS[dtype], shape)
    output = helper.make_tensor_value_info("seen", ELEMENTS[dtype], shape)
    made = nodes or [helper.make_node("Identity", ["images"], ["seen"])]
    graph = helper.make_graph(made, "g", [picture], [output], constants or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", "{0: 'a'}"
    onnx.save(model, path)
    return read_graph(path)


def run(content: bytes | str, feeds: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    output: Array = session.run(None, feeds)[0]
    return output


def noise(width: int = 200, height: int = 100) -> Picture:
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return Picture(
        (values,), Layout.RGB, Matrix.BT601, True, 0, width, height, None, 0.0, 0, 0, None, True, False, None
    )


def prepared(contract: InputContract, graph: Graph) -> Array:
    pixels = np.zeros(graph.input.picture, graph.input.dtype)
    Letterbox(contract, graph.input).write(noise(), pixels, None)
    return pixels[None]


@pytest.mark.parametrize("channels_first", [True, False], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_model_sees_the_values_that_it_would_be_given(
    tmp_path: Path, name: str, dtype: str, channels_first: bool
) -> None:
    """Bit for bit, but where OpenCV rounds twice at once: two units in the last place of the larger term.

    The letterbox's border comes from a table that is rounded once: it may differ by one unit.
    """
    contract = PRESETS[name]
    graph = seen(tmp_path / "m.onnx", dtype=dtype, channels_first=channels_first)
    joined = join(tmp_path / "m.onnx", graph, contract)
    bytes_fed = prepared(contract.of_bytes(), joined.graph)
    assert bytes_fed.dtype == np.uint8
    there = run(joined.content, {joined.graph.input.name: bytes_fed})
    here = prepared(contract, graph)
    border = prepared(dataclasses.replace(contract, fill=255 - contract.fill), graph) != here
    assert there.dtype == here.dtype
    assert len(np.unique(here)) > 100, "a picture of all shades"
    if dtype == "float32" and channels_first and any(contract.mean):
        gain, shift = (part.reshape(3, 1, 1) for part in contract.gain_and_shift())
        larger = np.maximum(bytes_fed * gain, np.abs(shift)).astype(np.float32)
        assert np.all(np.abs(there - here) <= 2 * np.spacing(larger))
    else:
        np.testing.assert_array_equal(there[~border], here[~border])
        np.testing.assert_array_max_ulp(there[border], here[border], 1)


def test_everything_else_of_the_model_stays(tmp_path: Path) -> None:
    graph = seen(tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    joined = join(tmp_path / "m.onnx", graph, PRESETS["ultralytics"])
    assert (tmp_path / "m.onnx").read_bytes() == before, "the file is not touched"
    model = onnx.load_model_from_string(joined.content)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("names", "{0: 'a'}")]
    assert (model.ir_version, model.opset_import[0].version) == (8, 13)
    (picture,) = joined.graph.inputs
    assert (picture.name, picture.dtype, picture.shape) == ("images_uint8", "uint8", ("n", 3, 48, 64))
    assert joined.graph.input == dataclasses.replace(
        graph.input, name="images_uint8", dtype=np.dtype(np.uint8)
    )
    assert (joined.graph.outputs, joined.graph.files) == (graph.outputs, graph.files)
    assert joined.content == join(tmp_path / "m.onnx", graph, PRESETS["ultralytics"]).content, (
        "the same bytes each time"
    )


def test_the_key_tells_what_was_joined(tmp_path: Path) -> None:
    graph = seen(tmp_path / "m.onnx")
    keys = {join(tmp_path / "m.onnx", graph, contract).key for contract in PRESETS.values()}
    scalings = {(contract.scale, contract.mean, contract.std) for contract in PRESETS.values()}
    assert len(keys) == len(scalings)


def test_a_graph_within_a_graph_reads_the_picture_too(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Add", ["images", "images"], ["twice"])],
        "branch",
        [],
        [helper.make_tensor_value_info("twice", TensorProto.FLOAT, None)],
    )
    truth = numpy_helper.from_array(np.array(True), "truth")
    nodes = [helper.make_node("If", ["truth"], ["seen"], then_branch=branch, else_branch=branch)]
    joined = join(
        tmp_path / "m.onnx", seen(tmp_path / "m.onnx", nodes=nodes, constants=[truth]), PRESETS["ultralytics"]
    )
    pixels = np.full((1, 3, 48, 64), 255, np.uint8)
    np.testing.assert_allclose(run(joined.content, {"images_uint8": pixels}), 2.0, rtol=1e-6)


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["images_uint8"]),
        helper.make_node("Identity", ["images_uint8"], ["seen"]),
    ]
    joined = join(tmp_path / "m.onnx", seen(tmp_path / "m.onnx", nodes=nodes), PRESETS["yolox"])
    assert joined.graph.input.name == "images_uint8_"
    pixels = np.arange(3 * 48 * 64).reshape(1, 3, 48, 64).astype(np.uint8)
    np.testing.assert_array_equal(run(joined.content, {"images_uint8_": pixels}), pixels)


def test_weights_listed_among_the_inputs_stay_weights(tmp_path: Path) -> None:
    """As old files have them: the format's version 3 knows no other way."""
    weight = numpy_helper.from_array(np.float32([2.0]), "weight")
    nodes = [helper.make_node("Mul", ["images", "weight"], ["seen"])]
    path = tmp_path / "m.onnx"
    seen(path, nodes=nodes, constants=[weight], opset=9, ir=4)
    model = onnx.load(path)
    model.ir_version = 3
    model.graph.input.insert(0, helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1]))
    onnx.save(model, path)
    joined = join(path, read_graph(path), PRESETS["nanodet"])
    onnx.checker.check_model(onnx.load_model_from_string(joined.content))
    assert run(joined.content, {"images_uint8": np.zeros((1, 3, 48, 64), np.uint8)}).shape == (1, 3, 48, 64)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"dtype": "uint8"}, "its picture input is uint8 already"),
        ({"opset": 6, "ir": 4}, "operator set 6, older than 7"),
    ],
)
def test_what_cannot_be_joined_says_why(tmp_path: Path, form: dict[str, Any], why: str) -> None:
    with pytest.raises(PrologueError, match=why):
        join(tmp_path / "m.onnx", seen(tmp_path / "m.onnx", **form), PRESETS["yolox"])


def test_a_file_that_went_or_was_exchanged_is_refused(tmp_path: Path) -> None:
    graph = seen(tmp_path / "m.onnx")
    Tiny(planted.yolo(), input_name="other").write(tmp_path / "m.onnx")
    with pytest.raises(PrologueError, match="exchanged meanwhile"):
        join(tmp_path / "m.onnx", graph, PRESETS["yolox"])
    (tmp_path / "m.onnx").write_bytes(b"nonsense")
    with pytest.raises(PrologueError, match="cannot be read again"):
        join(tmp_path / "m.onnx", graph, PRESETS["yolox"])
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(PrologueError, match="cannot be read again"):
        join(tmp_path / "m.onnx", graph, PRESETS["yolox"])


def test_a_picture_that_is_an_output_as_well_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    seen(path)
    model = onnx.load(path)
    model.graph.output.append(model.graph.input[0])
    onnx.save(model, path)
    with pytest.raises(PrologueError, match="an output as well"):
        join(path, read_graph(path), PRESETS["yolox"])


AS_FLOATS = RuntimeOptions(("cpu",), True, "fp32", 0, Path("/nonexistent"), 1, 1, 1, frozenset())
AS_BYTES = dataclasses.replace(AS_FLOATS, uint8_input=frozenset({"cpu"}))


def test_weights_beside_the_model_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from another folder than the model's: bytes have no folder of their own."""
    weight = numpy_helper.from_array(np.full((1, 3, 48, 64), 3, np.float32), "weight")
    nodes = [helper.make_node("Mul", ["images", "weight"], ["seen"])]
    path = tmp_path / "model" / "m.onnx"
    path.parent.mkdir()
    seen(path, nodes=nodes, constants=[weight])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (path.parent / "w.bin").stat().st_size >= weight.ByteSize() // 2
    monkeypatch.chdir(tmp_path)
    graph = read_graph(path)
    with open_session(path, graph, AS_BYTES, contract=PRESETS["yolox"]) as session:
        assert session.graph.input.name == "images_uint8"
        (output,) = session.run({"images_uint8": np.full((1, 3, 48, 64), 7, np.uint8)})
        assert np.all(output == 21)


def test_the_session_and_the_detector_say_what_they_take(tmp_path: Path) -> None:
    model = describe(Tiny(planted.yolo(), metadata={"author": "Ultralytics"}).write(tmp_path))
    with open_session(model.path, model.graph, AS_BYTES, contract=model.contract) as session:
        detector = Detector(model, session, session.batch)
        assert detector.input.dtype == np.uint8
        assert detector.contract == model.contract.of_bytes()
        assert detector.contract.order is model.contract.order
        assert detector.contract.fill == model.contract.fill
        detector.try_out()
    with open_session(model.path, model.graph, AS_FLOATS, contract=model.contract) as session:
        detector = Detector(model, session, session.batch)
        assert (detector.input, detector.contract) == (model.graph.input, model.contract)


def test_what_cannot_be_joined_runs_as_it_is_and_says_so(tmp_path: Path) -> None:
    graph = seen(tmp_path / "m.onnx", opset=6, ir=4)
    with open_session(tmp_path / "m.onnx", graph, AS_BYTES, contract=PRESETS["yolox"]) as session:
        assert session.graph is graph
        (note,) = session.notes
        assert note.startswith("the model keeps its float32 input: it is written in operator set 6")


def test_a_model_that_fails_is_refused_by_its_file(tmp_path: Path) -> None:
    nine = numpy_helper.from_array(np.array([9]), "nine")
    nodes = [helper.make_node("Gather", ["images", "nine"], ["seen"], axis=1)]
    graph = seen(tmp_path / "m.onnx", nodes=nodes, constants=[nine])
    with pytest.raises(ModelError, match=r"m\.onnx: it loads but fails at its first run"):
        open_session(tmp_path / "m.onnx", graph, AS_BYTES, contract=PRESETS["yolox"])


@pytest.mark.long
@needs_data
def test_real_models_find_the_same(tmp_path: Path) -> None:
    """All reference models on one real picture: equal outputs where the input is equal, and equal objects."""
    import cv2

    root = folder()
    assert root is not None
    bgr = cv2.imread(str(root / "images" / "street_crowd.jpg"))
    height, width = bgr.shape[:2]
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    picture = Picture(
        (rgb,), Layout.RGB, Matrix.BT601, True, 0, width, height, None, 0.0, 0, 0, None, True, False, None
    )
    found = 0
    for path in sorted((root / "models").glob("*.onnx")):
        model = describe(path)
        rules = rules_for(model.labels)
        results = []
        for options in (AS_FLOATS, AS_BYTES):
            with open_session(path, model.graph, options, contract=model.contract) as session:
                detector = Detector(model, session, 1)
                pixels = np.zeros(detector.input.picture, detector.input.dtype)
                placement = Letterbox(detector.contract, detector.input).write(picture, pixels, None)
                outputs = detector.run([pixels])
                seen_objects = detector.read(outputs, 0, placement, (width, height), rules)
                results.append(([output.copy() for output in outputs], seen_objects))
        (floats, plain), (from_bytes, joined) = results
        for one, other in zip(floats, from_bytes, strict=True):
            if model.contract == model.contract.of_bytes():
                np.testing.assert_array_equal(one, other, err_msg=path.name)
            else:
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=0.01, err_msg=path.name)
        np.testing.assert_array_equal(plain.class_ids, joined.class_ids, err_msg=path.name)
        np.testing.assert_allclose(plain.boxes, joined.boxes, atol=0.01, err_msg=path.name)
        found += len(plain)
    assert found > 50
