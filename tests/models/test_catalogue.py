"""The list of known models is sound, and names lead to its rows."""

from __future__ import annotations

import re
import typing
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hatchling.builders.wheel import WheelBuilder

from streamd.core.errors import UsageError
from streamd.models.catalogue import KnownModel, catalogue, is_path, named, of_digest
from streamd.models.description import describe
from streamd.models.heads import FAMILIES
from streamd.models.presets import PRESETS
from tests.support import reference_data

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("model", catalogue().values(), ids=lambda model: model.name)
def test_a_row_is_sound(model: KnownModel) -> None:
    types = typing.get_type_hints(KnownModel)
    for field in fields(KnownModel):
        value = getattr(model, field.name)
        if field.name == "labels":
            continue
        assert isinstance(value, typing.get_origin(types[field.name]) or types[field.name]), field.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", model.name), "a file name, and nothing that is a path"
    assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
    assert 0 < model.bytes < 1 << 30
    parts = urlsplit(model.address)
    assert (parts.scheme, parts.username, parts.query, parts.fragment) == ("https", None, "", "")
    assert parts.path.endswith(".onnx")
    assert not parts.netloc.startswith("raw."), "a raw address gives the pointer of a file in Git LFS"
    assert model.head in FAMILIES
    assert model.input in PRESETS
    assert model.labels == "coco" or isinstance(model.labels, tuple)
    assert all(side >= 8 for side in model.input_size)
    assert model.licence in ("Apache-2.0", "MIT")
    assert model.task


def test_nothing_stands_twice() -> None:
    models = catalogue().values()
    for column in ("name", "sha256", "address"):
        assert len({getattr(model, column) for model in models}) == len(models) > 0, column


def test_the_wheel_brings_the_list() -> None:
    inside = [file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()]
    assert "streamd/assets/models.toml" in inside


def test_the_documentation_has_every_row() -> None:
    text = (ROOT / "docs" / "MODELS.md").read_text()
    for model in catalogue().values():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{model.name}` |"))
        for told in (model.head, model.licence, model.address, model.sha256[:8]):
            assert told in row, (model.name, told)
        assert row.endswith("| yes |" if model.proven else "| no |")
    for head in FAMILIES:
        assert f"| `{head}` |" in text, head


def test_what_is_clearly_a_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("./yolox-nano", "/x/yolox-nano", "yolox-nano.onnx", "a/b", "X.ONNX"):
        assert is_path(text)
        assert named(text) == Path(text)
    (tmp_path / "yolox-nano").touch()
    assert named("yolox-nano") is catalogue()["yolox-nano"]
    (tmp_path / "mine").touch()
    assert named("mine") == Path("mine")


@pytest.mark.parametrize("text", ["yolox-nan", "YOLOX-Nano", "", "zzz", "a\nb\x1b[2J", "x" * 5000, "\0"])
def test_what_is_neither_is_told_with_the_nearest_name(text: str) -> None:
    with pytest.raises(UsageError, match="no such file, and no known model") as caught:
        named(text)
    assert str(caught.value).isprintable()
    assert ("did you mean 'yolox-nano'?" in str(caught.value)) == text.lower().startswith("yolox")
    assert "known are yolox-nano, yunet" in str(caught.value)


@reference_data.needs_data
def test_a_known_model_is_known_by_its_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    where = reference_data.folder()
    assert where is not None
    found = describe(where / "models" / "yolox_nano_release.onnx")
    known = of_digest(found.sha256)
    assert known is catalogue()["yolox-nano"]
    assert found.path.stat().st_size == known.bytes
    assert found.family == known.head
    assert found.contract == PRESETS[known.input]
    assert (found.graph.input.height, found.graph.input.width) == known.input_size
    assert {found.head_reason, found.input_reason, found.labels_reason} == {"known model yolox-nano"}
    assert found.input_known
    # What is set wins over the list.
    set_ = describe(found.path, head="yolox", input="nanodet", labels=[f"c{n}" for n in range(80)])
    assert (set_.head_reason, set_.input_reason) == ("set", "set (nanodet)")
    assert set_.labels[0] == "c0"
    assert set_.contract == PRESETS["nanodet"]
