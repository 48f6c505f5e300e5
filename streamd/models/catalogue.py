"""The models that streamd knows by name: where each is published, what its bytes are, and how it is read."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from streamd.core.errors import UsageError
from streamd.core.nearest import nearest
from streamd.core.text import printable


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A row of the list (`assets/models.toml`). `head`, `input` and `labels` are as a configuration has them."""

    name: str
    task: str
    head: str
    input: str
    labels: str | tuple[str, ...]
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    licence: str
    bytes: int
    sha256: str
    """Of the file's bytes; hexadecimal."""
    address: str
    """Where its publishers keep it."""
    proven: bool
    """Whether a test runs these bytes against reference detections."""


@cache
def catalogue() -> Mapping[str, KnownModel]:
    """The list by name, in its order."""
    text = resources.files("streamd").joinpath("assets", "models.toml").read_text(encoding="utf-8")
    return {name: _known(name, row) for name, row in tomllib.loads(text).items()}


def of_digest(sha256: str) -> KnownModel | None:
    """The known model that has these bytes, whatever its file is called."""
    return next((model for model in catalogue().values() if model.sha256 == sha256), None)


def is_path(text: str) -> bool:
    """Whether this can only be meant as a path: it has a separator or ends in .onnx. All else is a name first."""
    return os.sep in text or text.lower().endswith(".onnx")


def named(text: str) -> Path | KnownModel:
    """What somebody means by a model on a command line.

    A file that is clearly no path by `is_path` is taken where no known model has its name. Raises UsageError,
    with the nearest name, for what is neither.
    """
    if not is_path(text):
        if text in catalogue():
            return catalogue()[text]
        if not os.path.exists(text):
            raise UsageError(f"{printable(text)}: {unknown(text)}")
    return Path(text)


def unknown(text: str) -> str:
    """Why `text` is no model, without quoting it: it may be a secret in the wrong place."""
    return (
        f"no such file, and no known model{nearest(text, catalogue())}; known are {', '.join(catalogue())} "
        "(`streamd models list`), a path has a / or ends in .onnx"
    )


def _known(name: str, row: Mapping[str, object]) -> KnownModel:
    listed = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return KnownModel(name=name, **listed)  # type: ignore[arg-type] # a test holds the file to the types
