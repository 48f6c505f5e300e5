"""What exporters write into a model's metadata: names of classes, and who wrote it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping

_NAMES = ("streamd.labels", "names", "labels", "class_names")
_LONGEST = 1_000_000


def is_ultralytics(metadata: Mapping[str, str]) -> bool:
    """Whether Ultralytics' exporters wrote it (the YOLOv5 one leaves only `names` and `stride`)."""
    return metadata.get("author") == "Ultralytics" or ("names" in metadata and "stride" in metadata)


def is_rtdetr(metadata: Mapping[str, str]) -> bool:
    """Whether Ultralytics wrote it for their RT-DETR: `Ultralytics rtdetr-l model trained on ...`."""
    return is_ultralytics(metadata) and "rtdetr" in metadata.get("description", "").lower().replace("-", "")


def class_names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The names of the classes in order, from JSON or Python text, a list or a dict by number; else None."""
    for key in _NAMES:
        if key in metadata:
            names = _names(_value(metadata[key]))
            if names:
                return names
    return None


def _value(text: str) -> object:
    """What the text spells, without running it."""
    if len(text) > _LONGEST:
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    return value


def _names(value: object) -> tuple[str, ...] | None:
    if isinstance(value, dict):
        try:
            by_number = {int(number): name for number, name in value.items()}
        except (TypeError, ValueError):
            return None
        if sorted(by_number) != list(range(len(by_number))):
            return None
        value = [by_number[number] for number in range(len(by_number))]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(" ".join(name.split()) for name in value)
