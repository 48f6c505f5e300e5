"""What describe() settles: name, digest, input contract, labels, feeds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamd.core.errors import ConfigError, MissingFileError, ModelError
from streamd.models.contract import Fit, InputContract, Order
from streamd.models.description import describe
from streamd.models.labels import coco
from streamd.models.presets import PRESETS
from streamd.models.shapes import feeds
from tests.models.test_graph import external
from tests.support import planted
from tests.support.tiny_models import Tiny

OWN = InputContract(Order.BGR, 0.5, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), Fit.CENTER, 9)
ULTRALYTICS = {
    "author": "Ultralytics",
    "task": "detect",
    "stride": "32",
    "names": "{0: 'cat', 1: 'dog', 2: 'cow'}",
}


def written(tmp_path: Path, **options: Any) -> Path:
    return Tiny(planted.yolo(), **options).write(tmp_path / "pets.onnx")


def test_name_and_digest(tmp_path: Path) -> None:
    path = written(tmp_path)
    model = describe(path)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.digest == model.sha256[:8]
    assert model.name == f"pets@{model.digest}"
    assert model.family == "yolo"


def test_the_digest_covers_external_weights(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx", "weights.bin")
    before = describe(path).sha256
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert describe(path).sha256 != before


def test_without_a_word_the_input_is_a_guess(tmp_path: Path) -> None:
    model = describe(written(tmp_path))
    assert model.contract == PRESETS["ultralytics"]
    assert not model.input_known
    assert "guess" in model.input_reason
    assert "set input" in model.input_reason


def test_metadata_tells_the_input_and_the_labels(tmp_path: Path) -> None:
    model = describe(written(tmp_path, metadata=ULTRALYTICS))
    assert model.contract == PRESETS["ultralytics"]
    assert model.input_known
    assert model.labels == ("cat", "dog", "cow")


def test_a_family_with_one_contract_tells_the_input(tmp_path: Path) -> None:
    model = describe(Tiny(planted.yolox()).write(tmp_path))
    assert model.contract == PRESETS["yolox"]
    assert model.input_known
    assert model.input_reason == "head family yolox"


def test_own_metadata_goes_first(tmp_path: Path) -> None:
    as_json = json.dumps(
        {"order": "bgr", "scale": 0.5, "mean": [1, 2, 3], "std": [4, 5, 6], "fit": "center", "fill": 9}
    )
    for text, contract in [("nanodet", PRESETS["nanodet"]), (as_json, OWN)]:
        model = describe(written(tmp_path, metadata={**ULTRALYTICS, "streamd.input": text}))
        assert model.contract == contract
        assert model.input_reason == "metadata streamd.input"


@pytest.mark.parametrize("text", ["yollox", "{}", "[1]", '{"order": "bgr"}', "[" * 100_000])
def test_own_metadata_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pets\.onnx: its metadata streamd\.input"):
        describe(written(tmp_path, metadata={"streamd.input": text}))


@pytest.mark.parametrize(("key", "value"), [("scale", 0), ("scale", -1), ("std", [1, 0, 1]), ("fill", 256)])
def test_own_metadata_outside_its_ranges(key: str, value: object, tmp_path: Path) -> None:
    fields = {"order": "bgr", "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "fit": "center", "fill": 0}
    with pytest.raises(ModelError, match=r"metadata streamd\.input"):
        describe(written(tmp_path, metadata={"streamd.input": json.dumps({**fields, key: value})}))


def test_the_user_goes_before_all(tmp_path: Path) -> None:
    path = written(tmp_path, metadata={**ULTRALYTICS, "streamd.input": "nanodet"})
    assert describe(path, input="yolox").contract == PRESETS["yolox"]
    model = describe(path, input=OWN)
    assert model.contract == OWN
    assert model.input_known
    with pytest.raises(ConfigError, match="did you mean 'nanodet'"):
        describe(path, input="nanodett")


def test_uint8_models_prepare_values_themselves(tmp_path: Path) -> None:
    path = written(tmp_path, dtype="uint8", metadata=ULTRALYTICS)
    contract = describe(path).contract
    assert (contract.scale, contract.mean, contract.std) == (1.0, (0.0,) * 3, (1.0,) * 3)
    assert (contract.order, contract.fit, contract.fill) == (Order.RGB, Fit.CENTER, 114)
    with pytest.raises(ConfigError, match="uint8"):
        describe(path, input=OWN)


def test_feeds(tmp_path: Path) -> None:
    model = describe(Tiny(planted.detr(), target_sizes=True).write(tmp_path))
    batch = np.zeros((2, 3, 64, 96), np.float32)
    fed = feeds(model.graph, batch)
    assert list(fed) == ["images", "orig_target_sizes"]
    assert fed["images"] is batch
    assert fed["orig_target_sizes"].dtype == np.int64
    assert fed["orig_target_sizes"].tolist() == [[96, 64], [96, 64]]


@pytest.mark.parametrize(
    "names",
    [
        "{0: 'cat', 1: 'dog', 2: 'cow'}",
        '["cat", "dog", "cow"]',
        '{"0": "cat", "2": "cow", "1": "dog"}',
        "('cat', 'dog ', 'c\\now')",
    ],
)
def test_names_in_metadata(names: str, tmp_path: Path) -> None:
    found = describe(written(tmp_path, metadata={"names": names})).labels
    assert [name[0] for name in found] == ["c", "d", "c"]
    assert not any("\n" in name for name in found)


@pytest.mark.parametrize(
    "names", ["", "x", "{0: 'a', 2: 'b'}", "{'a': 1}", "[1, 2, 3]", "__import__('os')", "(" * 9999]
)
def test_names_that_cannot_be_read_are_none(names: str, tmp_path: Path) -> None:
    model = describe(written(tmp_path, metadata={"names": names}))
    assert model.labels == ("class_0", "class_1", "class_2")


def test_names_that_do_not_fit_the_outputs_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, metadata={"names": "['a', 'b']"})
    with pytest.raises(ModelError, match="names 2 classes, its outputs have 3"):
        describe(path)
    assert describe(path, labels=["a", "b", "c"]).labels == ("a", "b", "c")


def test_labels_that_are_set(tmp_path: Path) -> None:
    path = written(tmp_path, metadata=ULTRALYTICS)
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffKätzchen\r\nHund\r\nKuh\r\n\r\n".encode())
    assert describe(path, labels=file).labels == ("Kätzchen", "Hund", "Kuh")
    assert describe(path, labels=str(file)).labels == ("Kätzchen", "Hund", "Kuh")
    with pytest.raises(ConfigError, match="has 80 names, the model has 3 classes"):
        describe(path, labels="coco")
    with pytest.raises(ConfigError, match="has 2 names, the model has 3 classes"):
        describe(path, labels=["a", "b"])
    with pytest.raises(ConfigError, match="has 0 names"):
        describe(path, labels=[])
    with pytest.raises(MissingFileError, match="no such file"):
        describe(path, labels=tmp_path / "absent.txt")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        describe(path, labels=file)


def test_outputs_that_do_not_tell_how_many_classes(tmp_path: Path) -> None:
    path = Tiny(planted.end2end()).write(tmp_path)
    model = describe(path)
    assert model.labels == coco()
    assert "guess" in model.labels_reason
    assert describe(path, labels=["a", "b"]).labels == ("a", "b")
    path = Tiny(planted.end2end(), metadata=ULTRALYTICS).write(tmp_path)
    assert describe(path).labels == ("cat", "dog", "cow")
    with pytest.raises(ConfigError, match="has 2 names, the model has 3 classes"):
        describe(path, labels=["a", "b"])


def test_faces_are_called_so(tmp_path: Path) -> None:
    assert describe(Tiny(planted.yunet()).write(tmp_path)).labels == ("face",)


def test_coco() -> None:
    names = coco()
    assert len(names) == len(set(names)) == 80
    assert (names[0], names[2], names[79]) == ("person", "car", "toothbrush")
