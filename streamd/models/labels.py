"""The names of a model's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from streamd.core.errors import ConfigError, MissingFileError, ModelError
from streamd.models.metadata import class_names
from streamd.models.recognition import Found

COCO_CLASSES = 80

Labels: TypeAlias = str | Path | Sequence[str]
"""`auto`, `coco`, a path to a text file with a name a line, or the names themselves."""


def coco() -> tuple[str, ...]:
    """The 80 classes of COCO, in the usual order."""
    text = resources.files("streamd").joinpath("assets", "coco80.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:COCO_CLASSES])


def labels_of(found: Found, metadata: Mapping[str, str], labels: Labels) -> tuple[tuple[str, ...], str]:
    """The names by class number, and where they come from, for people.

    Where the outputs do not tell how many classes there are, the metadata's names do, else the labels.
    Raises ConfigError when the names that are set are not as many as the classes, ModelError when those of
    the metadata are not, MissingFileError for a file that cannot be read.
    """
    classes = found.head.classes
    written = class_names(metadata)
    if labels == "auto":
        return _auto(found, written)
    if labels == "coco":
        names, source = coco(), "coco"
    elif isinstance(labels, str | Path):
        names, source = _read(Path(labels)), str(labels)
    else:
        names, source = tuple(labels), "the list"
    expected = classes or (len(written) if written else None)
    if not names or expected not in (None, len(names)):
        raise ConfigError(
            f"labels: {source} has {len(names)} names, the model has {expected or 'at least 1'} classes; "
            "name every class, in the model's order"
        )
    return names, f"set ({source})"


def _auto(found: Found, written: tuple[str, ...] | None) -> tuple[tuple[str, ...], str]:
    classes = found.head.classes
    if written:
        if classes not in (None, len(written)):
            raise ModelError(
                f"its metadata names {len(written)} classes, its outputs have {classes}: the head reads them "
                "wrongly, or the names are another model's; set head or labels"
            )
        return written, "metadata"
    if classes is None:
        return coco(), "guess: COCO's; the outputs do not tell how many classes there are, set labels"
    if classes == len(found.family.labels):
        return found.family.labels, f"head family {found.family.name}"
    if classes == COCO_CLASSES:
        return coco(), "COCO's, as there are 80 classes"
    numbered = tuple(f"class_{number}" for number in range(classes))
    return numbered, "numbers; nothing names the classes, set labels"


def _read(path: Path) -> tuple[str, ...]:
    """A text file with a name a line; empty lines at its end do not count."""
    if path.exists() and not path.is_file():
        # A pipe or a device may never end.
        raise MissingFileError(f"labels: {path}: is no file; name a text file with a class name a line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"labels: {path}: no such file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"labels: {path}: not a text file in UTF-8; write one name a line") from error
    except OSError as error:
        raise MissingFileError(f"labels: {path}: cannot be read: {error.strerror or error}") from error
    return tuple(line.strip() for line in text.rstrip().splitlines())
