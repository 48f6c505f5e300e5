"""The contracts between pixels, a model and its head: what goes in, what comes out, and in which space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Array: TypeAlias = NDArray[Any]


class Order(StrEnum):
    RGB = "rgb"
    BGR = "bgr"


class Fit(StrEnum):
    """How a picture of another shape is placed into the model's input."""

    TOP_LEFT = "topleft"
    CENTER = "center"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class InputContract:
    """What a model wants in its input: value = (pixel * scale - mean) / std, per channel in `order`.

    `fill` (0 to 255, before scale, mean and std) fills what the letterbox leaves free.
    """

    order: Order
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Fit
    fill: int

    def gain_and_shift(self) -> tuple[Floats, Floats]:
        """The same as value = pixel * gain + shift: float32 [3] each, per channel in `order`."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)

    def of_bytes(self) -> InputContract:
        """The same picture left as it is, 0 to 255: for an input whose model scales by itself."""
        return replace(self, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True, slots=True)
class InputShape:
    """The picture input of a model. `batch` is None when the model takes any number of pictures."""

    name: str
    width: int
    height: int
    channels_first: bool
    dtype: np.dtype[Any]
    batch: int | None

    @property
    def picture(self) -> tuple[int, int, int]:
        """The shape of one picture: [3, H, W] or [H, W, 3]."""
        if self.channels_first:
            return (3, self.height, self.width)
        return (self.height, self.width, 3)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a source picture lies in the model's input: x_input = x_source * scale_x + offset_x, likewise y.

    Source coordinates are stored pixels of the upright picture. `width` and `height` are the size of the
    picture in the input, in whole pixels: two sources of one scale may still leave another border.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    width: int = 0
    height: int = 0
    scale: Floats = field(init=False, repr=False, compare=False)
    """float32 [2]: the scales of x and y."""
    offset: Floats = field(init=False, repr=False, compare=False)
    """float32 [2]: the offsets of x and y."""

    def __post_init__(self) -> None:
        # Made once for a source, not for each of its pictures.
        object.__setattr__(self, "scale", np.array([self.scale_x, self.scale_y], np.float32))
        object.__setattr__(self, "offset", np.array([self.offset_x, self.offset_y], np.float32))


@dataclass(slots=True)
class Candidates:
    """What a head reads from one picture's outputs, before non-maximum suppression.

    boxes float32 [n, 4]: x1, y1, x2, y2 in pixels of the model's *input*, not clipped.
    scores float32 [n]; class_ids int64 [n]; keypoints float32 [n, k, 2] in input pixels, or None.
    pictures int64 [n], ascending: which picture of the batch each is of; None: all are of one.
    """

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]
    keypoints: Floats | None = None
    pictures: NDArray[np.int64] | None = None


@dataclass(slots=True)
class Detections:
    """The objects of one picture, best score first.

    boxes float32 [n, 4]: x1, y1, x2, y2, exclusive edges, in stored pixels of the upright *source*, clipped.
    """

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]
    keypoints: Floats | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph. A dimension is a number, or a name (symbolic), or None (unknown)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """What can be known of a model file without running it."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    input: InputShape
    files: tuple[Path, ...] = ()
    """The model file first, then the files of its external weights, sorted by name."""


class Head(Protocol):
    """Reads the outputs of one family of models."""

    nms: bool
    """Whether the candidates still need class-wise non-maximum suppression."""
    classes: int | None
    """How many classes the model tells apart; None when its outputs do not tell: they carry class numbers."""

    def decode(self, outputs: Sequence[Array], row: int, floors: Floats) -> Candidates:
        """Candidates of picture `row` of a batch whose score reaches its class's floor.

        outputs: the session's outputs in the graph's order, first dimension the batch.
        floors float32 [classes]: the lowest score that counts, per class; infinite for a class nobody wants.
        The best class per box is taken. Rows that are not finite, and class numbers beyond the floors, are
        left out. Raises ModelError when the outputs are not what the file declared, or cannot be what the
        family gives (scores that are no probabilities).
        """
        ...


@runtime_checkable
class BatchHead(Head, Protocol):
    """A head that needs no suppression and reads a whole batch in one go: numpy's price is per call."""

    def decode_batch(self, outputs: Sequence[Array], pictures: int, floors: Floats) -> Candidates:
        """As `decode`, of the first so many pictures; `Candidates.pictures` tells them apart."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table of heads: a name, the input its models usually want, how to know and build one."""

    name: str
    contract: InputContract
    recognise: Callable[[Graph], str | None]
    """Why this graph is of the family, in a few words for people; None when it is not."""
    build: Callable[[Graph], Head]
    """Raises ModelError when the outputs do not fit the family."""
    shared: bool = False
    """Whether all exports of the family want their pictures alike; else `contract` is only a guess."""
    labels: tuple[str, ...] = ()
    """The names of the classes where they follow from the family."""
