"""Real models, clips and their reference detections, from STREAMD_TEST_DATA; tests skip without them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamd.models.contract import Floats
from streamd.models.labels import coco
from tests.support.matching import Objects

VARIABLE = "STREAMD_TEST_DATA"


def folder() -> Path | None:
    """The folder with models/, videos/, images/ and expected/; None when the variable is not set."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


data_root = folder

needs_data = pytest.mark.skipif(
    folder() is None, reason=f"{VARIABLE} is not set: the folder with models/, videos/, images/ and expected/"
)


@dataclass(frozen=True)
class Reference:
    """What a model says to one picture, boxes in pixels of the upright source."""

    file: str
    frame: int | None
    """Index in decode order; None for an image."""
    objects: Objects
    keypoints: Floats
    """float32 [n, k, 2] in the same pixels; k is 0 for models that have none."""


@dataclass(frozen=True)
class Expectation:
    """One file of expected/: a model, how its pictures were prepared, and what it said to each of them."""

    name: str
    model: str
    preprocessing: dict[str, Any]
    references: list[Reference]


def names(pattern: str) -> list[str]:
    """The files of expected/ for a glob, without their suffix; empty without data (the tests skip then)."""
    where = folder()
    return (
        sorted(path.name.removesuffix(".json") for path in (where / "expected").glob(pattern))
        if where
        else []
    )


def model_expectations() -> list[str]:
    """Names of the files that hold pictures of all kinds, one per model."""
    return [name for name in names("*.json") if not name.startswith("timeline.")]


def load(name: str) -> Expectation:
    """expected/<name>.json, either of the two kinds."""
    where = folder()
    assert where is not None
    content = json.loads((where / "expected" / f"{name}.json").read_text())
    if "frames" in content:
        references = [_timeline_row(content["file"], row) for row in content["frames"]]
    else:
        references = [_picture(row) for row in content["inputs"]]
    return Expectation(name, content["model"], content["preprocessing"], references)


def _timeline_row(file: str, row: dict[str, Any]) -> Reference:
    """Timelines name the classes; a detector of persons only counts them as COCO does, from 0."""
    found = row["detections"]
    objects = _objects(
        [coco().index(one[0]) for one in found], [one[1] for one in found], [one[2:6] for one in found]
    )
    return Reference(file, row["frame"], objects, np.zeros((len(found), 0, 2), np.float32))


def _picture(row: dict[str, Any]) -> Reference:
    found = row["detections"]
    objects = _objects(*([one[key] for one in found] for key in ("class_id", "score", "xyxy")))
    points = np.array([[point[:2] for point in one.get("keypoints", [])] for one in found], np.float32)
    count = points.size // (2 * len(found)) if found else 0
    return Reference(row["file"], row["frame"], objects, points.reshape(len(found), count, 2))


def _objects(classes: list[int], scores: list[float], boxes: list[list[float]]) -> Objects:
    return Objects(
        np.array(classes, np.int64), np.array(scores, np.float32), np.array(boxes, np.float32).reshape(-1, 4)
    )
