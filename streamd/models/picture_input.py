"""Which input of a model takes the picture, how large it is, and what else the model wants fed."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamd.core.errors import ConfigError, ModelError
from streamd.models.contract import InputShape, Tensor

DEFAULT_SIDE = 640
LARGEST_SIDE = 16384
_MOST_SPELLED = 6
DTYPES = ("float32", "float16", "uint8")


def picture_input(
    inputs: Sequence[Tensor], metadata: Mapping[str, str], size: tuple[int, int] | None, path: Path
) -> InputShape:
    """The picture input among a model's `inputs`; every other one has to be one that `is_target_size` knows.

    size: (height, width) for dimensions that the file leaves open; else the metadata's `imgsz`, else 640.
    Raises ModelError when there is not exactly one picture input, or one that streamd cannot fill, and
    ConfigError when `size` contradicts what the file fixes.
    """
    pictures = [tensor for tensor in inputs if len(tensor.shape) == 4]
    if not pictures:
        raise ModelError(
            f"{path}: no picture input (4 dimensions) among {spell(inputs)}; "
            "streamd runs models that take pictures"
        )
    if len(pictures) > 1:
        raise ModelError(f"{path}: more than one picture input: {spell(pictures)}; streamd feeds exactly one")
    picture = pictures[0]
    for tensor in inputs:
        if tensor is not picture and not is_target_size(tensor):
            raise ModelError(
                f"{path}: streamd does not know how to fill the input {spell([tensor])}; "
                "export the model with the picture as its only input"
            )
    if picture.dtype not in DTYPES:
        raise ModelError(
            f"{path}: the picture input {spell([picture])} is not {', '.join(DTYPES[:-1])} or {DTYPES[-1]}; "
            "export the model with one of them"
        )
    channels_first = _channels_first(picture, path)
    height, width = picture.shape[2:] if channels_first else picture.shape[1:3]
    return InputShape(
        name=picture.name,
        width=_side(width, 1, metadata, size, path),
        height=_side(height, 0, metadata, size, path),
        channels_first=channels_first,
        dtype=np.dtype(picture.dtype),
        batch=_batch([picture, *(tensor for tensor in inputs if tensor is not picture)], path),
    )


def is_target_size(tensor: Tensor) -> bool:
    """Whether it is the input of the DETR family for the size that boxes shall be scaled to: int [n, 2]."""
    return (
        tensor.dtype in ("int64", "int32")
        and len(tensor.shape) == 2
        and "size" in tensor.name.lower()
        and (tensor.shape[1] == 2 or not isinstance(tensor.shape[1], int))
    )


def spell(tensors: Sequence[Tensor]) -> str:
    """Tensors as people write them, in one line: `images float32 [1, 3, 640, 640]`."""
    text = ", ".join(
        f"{tensor.name} {tensor.dtype} [{', '.join('?' if d is None else str(d) for d in tensor.shape)}]"
        for tensor in tensors[:_MOST_SPELLED]
    )
    text += f" and {len(tensors) - _MOST_SPELLED} more" if len(tensors) > _MOST_SPELLED else ""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _channels_first(picture: Tensor, path: Path) -> bool:
    first, last = picture.shape[1], picture.shape[3]
    if first == 3:
        return True
    if last == 3:
        return False
    if not isinstance(first, int):
        return True  # every dimension left open: the order that exporters write
    raise ModelError(
        f"{path}: the picture input {spell([picture])} does not have 3 channels; "
        "streamd feeds colour pictures"
    )


def _side(
    declared: int | str | None,
    axis: int,
    metadata: Mapping[str, str],
    size: tuple[int, int] | None,
    path: Path,
) -> int:
    """One side of the input in pixels; axis 0 is the height, 1 the width."""
    name = ("height", "width")[axis]
    if isinstance(declared, int):
        if not 1 <= declared <= LARGEST_SIDE:
            raise ModelError(f"{path}: the picture input has a {name} of {declared}; that is no picture")
        if size is not None and size[axis] != declared:
            raise ConfigError(
                f"{path}: the model's input has a fixed {name} of {declared}, size asks for {size[axis]}; "
                "leave size out, or export the model with a dynamic size"
            )
        return declared
    side = (size or _size_in(metadata) or (DEFAULT_SIDE, DEFAULT_SIDE))[axis]
    if not 1 <= side <= LARGEST_SIDE:
        raise ConfigError(
            f"{path}: size [height, width] must lie in 1 to {LARGEST_SIDE} pixels, its {name} is {side}"
        )
    return side


def _size_in(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """(height, width) from Ultralytics' metadata: `imgsz` holds "[480, 640]" or "640"."""
    try:
        value = ast.literal_eval(metadata.get("imgsz", "")[:100])
    except (ValueError, SyntaxError):
        return None
    sides = [value, value] if isinstance(value, int) else value
    if isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) for side in sides):
        return (sides[0], sides[1])
    return None


def _batch(tensors: Sequence[Tensor], path: Path) -> int | None:
    """The number of pictures that the inputs fix; None when all of them leave it open."""
    fixed = {tensor.shape[0] for tensor in tensors if isinstance(tensor.shape[0], int)}
    if len(fixed) > 1 or any(count < 1 for count in fixed):
        raise ModelError(f"{path}: the inputs do not agree on a batch size: {spell(tensors)}")
    return next(iter(fixed), None)
