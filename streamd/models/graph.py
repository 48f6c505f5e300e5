"""Reads a model file without running it. The only module that imports onnx."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

import onnx
import onnx.shape_inference
from google.protobuf.message import DecodeError, EncodeError

from streamd.core.errors import MissingFileError, ModelError
from streamd.models.contract import Graph, InputShape, Tensor
from streamd.models.picture_input import picture_input

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive, as PyTorch writes its checkpoints",
    b"\x80\x02": "a Python pickle",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"ftrt": "a TensorRT engine",
    b"<?xml": "an XML file, as OpenVINO writes them",
    b"<!DOC": "a web page",
    b"<html": "a web page",
}
_FOREIGN_AT_4 = {b"TFL3": "a TensorFlow Lite model", b"ORTM": "a model in ONNX Runtime's own format"}
_LARGEST_CONSTANT = 4096
"""Bytes of a constant that shape inference may still want to read; anything larger is a weight."""


def read_graph(path: Path, size: tuple[int, int] | None = None) -> Graph:
    """What the model file at `path` takes and gives; its weights are dropped again before this returns.

    size: (height, width) of the picture input, for dimensions that the file leaves open. Output dimensions
    that the file leaves open are inferred where ONNX can do it for that size.

    Raises MissingFileError when the file, or a file of its weights, is not there or may not be read;
    ModelError when it is there and no model that streamd can feed; ConfigError when `size` contradicts it.
    """
    model = _parse(_read(path), path)
    files = (path, *_weight_files(model, path))
    metadata = {_text(entry.key): _text(entry.value) for entry in model.metadata_props}
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    # Older exporters list the weights among the inputs.
    inputs = tuple(_tensor(value, path) for value in model.graph.input if value.name not in weights)
    declared = tuple(_tensor(value, path) for value in model.graph.output)
    if not declared:
        raise ModelError(f"{path}: the model has no outputs")
    shape = picture_input(inputs, metadata, size, path)
    outputs = _inferred(model, inputs, declared, shape)
    return Graph(inputs, outputs, metadata, shape, files)


def _read(path: Path) -> bytes:
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A pipe or a device may never end.
        raise MissingFileError(f"{path}: is no file; name the .onnx file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such model file") from error
    except IsADirectoryError as error:
        raise MissingFileError(f"{path}: is a folder; name the .onnx file in it") from error
    except OSError as error:
        raise MissingFileError(f"{path}: cannot read the model file: {error.strerror or error}") from error


def _parse(content: bytes, path: Path) -> onnx.ModelProto:
    if not content:
        raise ModelError(f"{path}: the model file is empty; copy or export it again")
    if content.startswith(_LFS_POINTER):
        raise ModelError(
            f"{path}: a Git LFS pointer, not the model itself; run `git lfs pull` where it came from"
        )
    foreign = next((what for mark, what in _FOREIGN.items() if content.startswith(mark)), None)
    foreign = foreign or _FOREIGN_AT_4.get(content[4:8])
    if foreign:
        raise ModelError(f"{path}: {foreign}, not an ONNX model; export it to ONNX")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or cut short; copy or export it again") from error
    if model.ir_version < 1 or not model.HasField("graph"):
        raise ModelError(f"{path}: not an ONNX model; export the model to ONNX")
    if not model.opset_import or not model.graph.node:
        raise ModelError(
            f"{path}: an incomplete ONNX model (no operators, or cut short); copy or export it again"
        )
    return model


def _weight_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The files of external weights. They must lie in the model's folder: it may not read just any file."""
    folder = path.parent.resolve()
    names = set()
    constants = (_constants(function.node) for function in model.functions)
    for tensor in chain(_tensors(model.graph), *constants):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            # Every one that is named: ONNX Runtime reads the last, other readers the first.
            found = {_text(entry.value) for entry in tensor.external_data if entry.key == "location"}
            names |= found or {""}
    files = []
    for name in sorted(names):
        if not name or "\0" in name or PurePosixPath(name).is_absolute():
            raise ModelError(
                f"{path}: its weights are said to lie in {name!r}; export it with weights beside the model"
            )
        file = path.parent / name
        try:
            inside = file.resolve().is_relative_to(folder)
            there = file.is_file()
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"{path}: its weights are said to lie in {name!r}, which is no usable path"
            ) from error
        if not inside:
            raise ModelError(
                f"{path}: its weights lie outside the model's folder ({name!r}); that is refused"
            )
        if not there:
            raise MissingFileError(
                f"{path}: the file with its weights, {name}, is missing; copy it beside the model"
            )
        files.append(file)
    return files


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _constants(graph.node)


def _constants(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _tensor(value: onnx.ValueInfoProto, path: Path) -> Tensor:
    """An input or output as declared; the shape is () when the file does not tell how many dimensions."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"{path}: {value.name!r} is not a tensor; streamd does not run such models")
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError, ValueError):
        dtype = f"type {kind.elem_type}"
    return Tensor(_text(value.name), dtype, _shape(kind.shape))


def _text(value: str | bytes) -> str:
    """Protobuf gives bytes where a damaged file holds no UTF-8."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _shape(shape: onnx.TensorShapeProto) -> tuple[int | str | None, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else _text(dim.dim_param) or None
        for dim in shape.dim
    )


def _inferred(
    model: onnx.ModelProto, inputs: tuple[Tensor, ...], declared: tuple[Tensor, ...], picture: InputShape
) -> tuple[Tensor, ...]:
    """The outputs with as many known dimensions as can be had. Takes `model` apart: it is used up then.

    Where the file leaves the picture's size open, its declared output sizes may belong to another size: then
    the inferred ones go first, else the declared ones.
    """
    for tensor in _tensors(model.graph):
        _drop_weights(tensor)
    sides = {1: 3, 2: picture.height, 3: picture.width}
    if not picture.channels_first:
        sides = {1: picture.height, 2: picture.width, 3: 3}
    shapes = {tensor.name: tensor.shape for tensor in inputs}
    for value in model.graph.input:
        known = {0: picture.batch or 1, **(sides if value.name == picture.name else {1: 2})}
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name in shapes and not isinstance(shapes[value.name][axis], int):
                dim.dim_value = known[axis]
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    except (onnx.shape_inference.InferenceError, EncodeError, ValueError, RuntimeError):
        return declared  # what the file says has to do; whether the model runs shows when it is loaded
    open_size = any(not isinstance(dim, int) for dim in shapes[picture.name][1:])
    return tuple(
        Tensor(
            tensor.name, tensor.dtype, _merged(tensor.shape, _shape(value.type.tensor_type.shape), open_size)
        )
        for tensor, value in zip(declared, found, strict=True)
    )


def _drop_weights(tensor: onnx.TensorProto) -> None:
    if len(tensor.raw_data) > _LARGEST_CONSTANT:
        tensor.ClearField("raw_data")
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        if len(getattr(tensor, field)) > _LARGEST_CONSTANT // 4:
            tensor.ClearField(field)


def _merged(
    declared: tuple[int | str | None, ...], inferred: tuple[int | str | None, ...], open_size: bool
) -> tuple[int | str | None, ...]:
    if not declared or not inferred or len(declared) != len(inferred):
        return declared or inferred
    return (
        declared[0],  # the batch: inferred for a single picture
        *(
            found if isinstance(found, int) and (open_size or not isinstance(said, int)) else said
            for said, found in zip(declared[1:], inferred[1:], strict=True)
        ),
    )
