"""Model files as they come: whole, cut, disguised, and with inputs of every kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamd.core.errors import ConfigError, MissingFileError, ModelError
from streamd.models.graph import read_graph
from tests.support import planted, reference_data
from tests.support.reference_data import needs_data
from tests.support.tiny_models import Tiny

PLAIN = Tiny(planted.yolo())


def with_inputs(*inputs: onnx.ValueInfoProto) -> bytes:
    """A model that takes these inputs and gives back the first, as it is."""
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("Identity", [inputs[0].name], ["out"])], "g", inputs, [result]
    )
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


def value(name: str, *shape: int | str | None, element: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, list(shape))


def test_what_a_plain_model_takes_and_gives(tmp_path: Path) -> None:
    graph = read_graph(PLAIN.write(tmp_path))
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in graph.inputs] == [
        ("images", "float32", ("n", 3, 64, 96))
    ]
    assert graph.outputs[0].shape == ("n", 7, 126)
    assert (graph.input.height, graph.input.width, graph.input.batch) == (64, 96, None)
    assert graph.input.picture == (3, 64, 96)
    assert graph.files == (tmp_path / "model.onnx",)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("channels_first", [True, False])
def test_layouts_and_types(dtype: str, channels_first: bool, tmp_path: Path) -> None:
    tiny = dataclasses.replace(PLAIN, dtype=dtype, channels_first=channels_first, batch=2)
    found = read_graph(tiny.write(tmp_path)).input
    assert (found.height, found.width, found.batch) == (64, 96, 2)
    assert found.channels_first is channels_first
    assert found.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("metadata", "size", "expected"),
    [
        ({}, None, (640, 640)),
        ({}, (64, 96), (64, 96)),
        ({"imgsz": "[320, 416]"}, None, (320, 416)),
        ({"imgsz": "320"}, None, (320, 320)),
        ({"imgsz": "[320, 416]"}, (64, 96), (64, 96)),
        ({"imgsz": "__import__('os')"}, None, (640, 640)),
        ({"imgsz": "["}, None, (640, 640)),
    ],
)
def test_open_sizes(
    metadata: dict[str, str], size: tuple[int, int] | None, expected: tuple[int, int], tmp_path: Path
) -> None:
    path = dataclasses.replace(PLAIN, height="h", width="w", metadata=metadata).write(tmp_path)
    found = read_graph(path, size).input
    assert (found.height, found.width) == expected


def test_a_half_open_size_keeps_the_fixed_side(tmp_path: Path) -> None:
    path = dataclasses.replace(PLAIN, width="w").write(tmp_path)
    found = read_graph(path, (64, 320)).input
    assert (found.height, found.width) == (64, 320)


def test_a_size_against_the_file_is_refused(tmp_path: Path) -> None:
    path = PLAIN.write(tmp_path)
    assert read_graph(path, (64, 96)).input.width == 96
    with pytest.raises(ConfigError, match="fixed width of 96, size asks for 640"):
        read_graph(path, (640, 640))


def test_sizes_out_of_bounds_are_refused(tmp_path: Path) -> None:
    path = dataclasses.replace(PLAIN, height="h", width="w").write(tmp_path)
    for size in [(0, 640), (640, -1), (640, 100_000)]:
        with pytest.raises(ConfigError, match="size"):
            read_graph(path, size)


def test_open_outputs_are_inferred_for_the_size(tmp_path: Path) -> None:
    """A convolution of stride 8 over an input of open size."""
    weight = numpy_helper.from_array(np.zeros((6, 3, 8, 8), np.float32), "w")
    node = helper.make_node("Conv", ["images", "w"], ["out"], strides=[8, 8])
    graph = helper.make_graph(
        [node], "g", [value("images", "n", 3, "h", "w")], [value("out", "n", "c", "x", "y")], [weight]
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    assert read_graph(tmp_path / "m.onnx", (64, 96)).outputs[0].shape == ("n", 6, 8, 12)


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = PLAIN.proto()
    model.graph.input.append(value("nought"))
    onnx.save(model, tmp_path / "m.onnx")
    assert [tensor.name for tensor in read_graph(tmp_path / "m.onnx").inputs] == ["images"]


REFUSED_FILES = {
    "empty": (b"", "empty"),
    "rubbish": (b"\x00\xff\x17rubbish" * 100, "not an ONNX model"),
    "text": (b"hello, this is no model\n" * 10, "not an ONNX model"),
    "LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n",
        "git lfs pull",
    ),
    "PyTorch": (b"PK\x03\x04" + bytes(100), "PyTorch"),
    "HTML": (b"<!DOCTYPE html><html></html>", "web page"),
    "TFLite": (b"\x1c\x00\x00\x00TFL3" + bytes(50), "TensorFlow Lite"),
    "ORT": (b"\x1c\x00\x00\x00ORTM" + bytes(50), "ONNX Runtime's own"),
}


@pytest.mark.parametrize("kind", REFUSED_FILES)
def test_files_that_are_no_models(kind: str, tmp_path: Path) -> None:
    content, match = REFUSED_FILES[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=match) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in [tmp_path / "absent.onnx", tmp_path, tmp_path / "absent" / "m.onnx"]:
        with pytest.raises(MissingFileError) as caught:
            read_graph(path)
        assert caught.value.exit_code == 1


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99, 0.999])
def test_cut_files(share: float, tmp_path: Path) -> None:
    content = PLAIN.proto().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"copy or export it again|not an ONNX model"):
        read_graph(path)


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ([value("x", 1, 10)], "no picture input"),
        ([value("x", 1, 3, 64)], "no picture input"),
        ([value("a", 1, 3, 64, 64), value("b", 1, 3, 64, 64)], "more than one picture input"),
        ([value("a", 1, 1, 64, 64)], "3 channels"),
        ([value("a", 1, 64, 64, 4)], "3 channels"),
        ([value("a", 1, 3, 64, 64, element=TensorProto.DOUBLE)], "float32, float16 or uint8"),
        ([value("a", 1, 3, 64, 64, element=TensorProto.BFLOAT16)], "float32, float16 or uint8"),
        ([value("a", 1, 3, 64, 64), value("scale_factor", 1, 2)], "scale_factor"),
        ([value("a", 1, 3, 0, 64)], "height of 0"),
        ([value("a", 0, 3, 64, 64)], "batch"),
        ([value("a", 2, 3, 64, 64), value("orig_target_sizes", 1, 2, element=TensorProto.INT64)], "batch"),
    ],
)
def test_inputs_that_streamd_cannot_feed(
    inputs: list[onnx.ValueInfoProto], match: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(with_inputs(*inputs))
    with pytest.raises(ModelError, match=match) as caught:
        read_graph(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_fixed_target_size_fixes_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    sizes = value("orig_target_sizes", 1, 2, element=TensorProto.INT64)
    path.write_bytes(with_inputs(value("a", "n", 3, 64, 64), sizes))
    assert read_graph(path).input.batch == 1


def test_sequences_are_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1])
    path = tmp_path / "m.onnx"
    path.write_bytes(with_inputs(value("a", 1, 3, 64, 64), sequence))
    with pytest.raises(ModelError, match="'s' is not a tensor"):
        read_graph(path)


def external(path: Path, location: str) -> Path:
    """The plain model, whose largest constant lies in the file `location`."""
    model = PLAIN.proto()
    tensor = next(one for one in model.graph.initializer if one.name == "planted_output0")
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())
    inside = path.parent / "weights.bin"
    inside.write_bytes(content)
    return path


def test_external_weights_beside_the_model(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx", "weights.bin")
    assert read_graph(path).files == (path, tmp_path / "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(MissingFileError, match=r"weights\.bin, is missing"):
        read_graph(path)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "", "a\0b", "link.bin"]
)
def test_external_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"x")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="weights"):
        read_graph(external(folder / "m.onnx", location))


def test_a_second_location_and_one_inside_a_function_are_looked_at_too(tmp_path: Path) -> None:
    """ONNX Runtime takes the last of several locations; and a function of the model's own has constants too."""
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"x")
    path = external(folder / "m.onnx", "weights.bin")
    model = onnx.load_model_from_string(path.read_bytes())
    tensor = next(one for one in model.graph.initializer if one.external_data)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="weights lie outside"):
        read_graph(path)
    hidden = onnx.TensorProto(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = hidden.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    constant = helper.make_node("Constant", [], ["c"], value=hidden)
    model = PLAIN.proto()
    function = helper.make_function("own", "f", [], ["c"], [constant], [helper.make_opsetid("", 17)])
    model.functions.append(function)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="weights"):
        read_graph(path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Protobuf hands them out as bytes."""
    content = dataclasses.replace(PLAIN, metadata={"imgsz": "320"}).proto().SerializeToString()
    path = tmp_path / "m.onnx"
    for name in (b"images", b"output0", b"imgsz", b"320"):
        path.write_bytes(content.replace(name, b"\xff" * len(name)))
        read_graph(path)


@pytest.mark.long
def test_mutations_never_surprise(tmp_path: Path) -> None:
    """Flipped bytes give a graph or one of our errors, nothing else."""
    random = np.random.default_rng(7)
    content = np.frombuffer(Tiny(planted.end2end()).proto().SerializeToString(), np.uint8)
    path = tmp_path / "m.onnx"
    for _ in range(1500):
        changed = content.copy()
        at = random.integers(0, len(changed), random.integers(1, 6))
        changed[at] = random.integers(0, 256, len(at))
        path.write_bytes(changed.tobytes())
        try:
            read_graph(path)
        except (ModelError, MissingFileError, ConfigError) as error:
            assert "\n" not in str(error)  # noqa: PT017


@needs_data
def test_real_models_are_read() -> None:
    where = reference_data.folder()
    assert where is not None
    paths = sorted((where / "models").glob("*.onnx"))
    assert len(paths) >= 12
    for path in paths:
        graph = read_graph(path)
        assert graph.input.width % 32 == 0 or graph.input.width == 240
        assert graph.outputs
