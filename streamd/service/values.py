"""The kinds of value that keys of the configuration hold, each with what it allows, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)

from streamd.models.catalogue import KnownModel, catalogue, is_path
from streamd.service import address

HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a key may hold: ends the message "must be ...", whatever is wrong with it."""

    text: str


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, and text is never taken for a number."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def _folder(info: ValidationInfo) -> Path:
    """The configuration file's folder, from which relative paths are taken."""
    return Path((info.context or {}).get("folder", "."))


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError
    return _folder(info) / value


def _model_file(value: object, info: ValidationInfo) -> Path | KnownModel:
    if isinstance(value, KnownModel):
        return value
    if isinstance(value, str) and not is_path(value) and value in catalogue():
        return catalogue()[value]
    return _path(value, info)


def _model_file_out(value: Path | KnownModel) -> str:
    return value.name if isinstance(value, KnownModel) else str(value)


def _labels(value: object, info: ValidationInfo) -> str | tuple[str, ...] | Path:
    if isinstance(value, (list, tuple)):
        if not value or not all(isinstance(name, str) and name for name in value):
            raise ValueError
        return tuple(value)
    if value in ("auto", "coco"):
        return str(value)
    return _path(value, info)


def _video(value: object) -> str | int:
    if value == "best" or (type(value) is int and 0 <= value < 100):
        return value
    raise ValueError


def _above_zero(std: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(std) <= 0:
        raise ValueError
    return std


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, when none stands twice. Raises ValueError."""
    if len(set(names)) < len(names):
        raise ValueError
    return names


def _polygon(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    ends = (*points[1:], points[0])
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, ends, strict=True)) / 2
    if abs(area) < 1e-6:
        raise ValueError("must enclose an area: its points lie on a line")
    return points


@dataclass(frozen=True, slots=True)
class Confidence:
    """The lowest score that counts: `default` for every class that `classes` does not name."""

    default: float
    classes: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """The threshold of a class."""
        return self.classes.get(name, self.default)


def _confidence(value: object) -> Confidence:
    if isinstance(value, Confidence):
        return value
    if not isinstance(value, dict):
        return Confidence(_unit(value))
    thresholds = {str(name): _unit(number) for name, number in value.items()}
    if "default" not in thresholds:
        raise ValueError("needs `default`, the threshold of every class that it does not name")
    return Confidence(thresholds.pop("default"), thresholds)


def _unit(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def _confidence_out(value: Confidence) -> float | dict[str, float]:
    return {**value.classes, "default": value.default} if value.classes else value.default


def _labels_out(value: str | tuple[str, ...] | Path) -> str | list[str]:
    return list(value) if isinstance(value, tuple) else str(value)


_PATH_SCHEMA = WithJsonSchema({"type": "string", "minLength": 1})
_SHOW = PlainSerializer(str, return_type=str)
_UNIT_SCHEMA: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_NAMES_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

FilePath: TypeAlias = Annotated[Path, PlainValidator(_path), _SHOW, _PATH_SCHEMA, Allowed("a path")]
ModelFile: TypeAlias = Annotated[
    Path | KnownModel,
    PlainValidator(_model_file),
    PlainSerializer(_model_file_out, return_type=str),
    _PATH_SCHEMA,
    Allowed("a path, or a name that `streamd models list` shows"),
]
Labels: TypeAlias = Annotated[
    str | tuple[str, ...] | Path,
    PlainValidator(_labels),
    PlainSerializer(_labels_out),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, _NAMES_SCHEMA]}),
    Allowed("auto, coco, a list of names, or the path of a text file with a name a line"),
]
Threshold: TypeAlias = Annotated[
    Confidence,
    PlainValidator(_confidence),
    PlainSerializer(_confidence_out),
    WithJsonSchema(
        {
            "anyOf": [
                _UNIT_SCHEMA,
                {"type": "object", "additionalProperties": _UNIT_SCHEMA, "required": ["default"]},
            ]
        }
    ),
    Allowed("a number from 0 to 1, or {CLASS: number, default: number}"),
]
Video: TypeAlias = Annotated[
    str | int,
    PlainValidator(_video),
    WithJsonSchema({"anyOf": [{"const": "best"}, {"type": "integer", "minimum": 0, "maximum": 99}]}),
    Allowed("best, or the index of a video stream from 0 to 99"),
]
Unit: TypeAlias = Annotated[float, Field(ge=0, le=1), Allowed("a number from 0 to 1")]
Text: TypeAlias = Annotated[str, Field(min_length=1), Allowed("text")]
Names: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(strict=False, min_length=1),
    Allowed("a list of class names, or null"),
]
Triple: TypeAlias = Annotated[
    tuple[float, float, float], Field(strict=False), Allowed("a list of three numbers, one per channel")
]
Spread: TypeAlias = Annotated[
    tuple[float, float, float],
    Field(strict=False),
    AfterValidator(_above_zero),
    Allowed("a list of three numbers above 0, one per channel"),
]
Polygon: TypeAlias = Annotated[
    tuple[Annotated[tuple[Unit, Unit], Field(strict=False)], ...],
    Field(strict=False, min_length=3, max_length=64),
    AfterValidator(_polygon),
    Allowed("a list of 3 to 64 points [x, y], each coordinate from 0 to 1, or null"),
]
ModelSide: TypeAlias = Annotated[int, Field(ge=8, le=8192)]
ModelSize: TypeAlias = Annotated[
    tuple[ModelSide, ModelSide],
    Field(strict=False),
    Allowed("[height, width] in pixels, each from 8 to 8192, or null"),
]
ObjectSide: TypeAlias = Annotated[int, Field(ge=0, le=16384)]
ObjectSize: TypeAlias = Annotated[
    tuple[ObjectSide, ObjectSide],
    Field(strict=False),
    Allowed("[width, height] in pixels, each from 0 to 16384, or null"),
]
Secret: TypeAlias = Annotated[
    SecretStr,
    Field(strict=False),
    PlainSerializer(lambda _: HIDDEN, return_type=str),
    Allowed("text; put a number into quotes"),
]
Bind: TypeAlias = Annotated[
    str,
    AfterValidator(lambda text, info: address.bind_endpoint(text, _folder(info))),
    Allowed("tcp://HOST:PORT or ipc://PATH"),
]
Listen: TypeAlias = Annotated[str, AfterValidator(address.listen_address), Allowed("HOST:PORT, or null")]
