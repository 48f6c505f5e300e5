"""The engine cache with real files; a build is a function that writes some."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamd.core.errors import OutputError
from streamd.models.engines import MANIFEST, EngineCache, EngineError, EngineKey, model_digest
from tests.support.engine_files import ENGINE, KEY, fill, key, names, never, silent, write


def test_built_once_and_found_again(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    with cache.engine(KEY, write, silent) as folder:
        assert (folder / "m_sm90.engine").read_bytes() == ENGINE
        assert folder == tmp_path / "engines" / KEY.digest
    with cache.engine(KEY, never, silent) as again:
        assert again == folder
    assert names(cache.folder) == {KEY.digest}


def test_another_key_is_another_engine(tmp_path: Path) -> None:
    parts = {"model": "a", "gpu": {"name": "x", "memory": 8}, "options": {"fp16": "1"}, "batches": [1, 8]}
    others = [
        {**parts, "model": "b"},
        {**parts, "gpu": {"name": "x", "memory": 9}},
        {**parts, "options": {"fp16": "0"}},
        {**parts, "batches": [1, 4]},
        {**parts, "driver": "580"},
    ]
    digests = {EngineKey(each).digest for each in (parts, *others)}
    assert len(digests) == 6
    assert EngineKey(dict(reversed(parts.items()))).digest in digests, "the order of the parts is nothing"
    fill(EngineCache(tmp_path), EngineKey(parts), *map(EngineKey, others))
    assert len(names(tmp_path)) == 6


def model(path: Path, weights: list[float], external: bool = False) -> Path:
    values = numpy_helper.from_array(np.array(weights * 512, np.float32), "w")
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(weights) * 512])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(weights) * 512])
    made = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [picture], [result], [values])
    onnx.save(
        helper.make_model(made),
        path,
        save_as_external_data=external,
        location="weights.bin",
        size_threshold=0,
    )
    return path


@pytest.mark.parametrize("external", [False, True])
def test_the_same_topology_with_other_weights_is_another_model(tmp_path: Path, external: bool) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    a = model(folders[0] / "m.onnx", [1.0, 2.0], external)
    b = model(folders[1] / "m.onnx", [1.0, 3.0], external)
    same = model(folders[2] / "m.onnx", [1.0, 2.0], external)
    if external:
        assert a.read_bytes() == b.read_bytes(), "what differs lies in the other file"
    assert model_digest(a) == model_digest(same)
    assert model_digest(a) != model_digest(b)


def test_a_look_reads_names_and_sizes_only(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    assert not cache.seems_to_hold(KEY)
    fill(cache, KEY)
    assert cache.seems_to_hold(KEY)
    flip(tmp_path / KEY.digest / "m_sm90.engine")
    assert cache.seems_to_hold(KEY)
    assert cache.flaw(KEY) is not None
    (tmp_path / KEY.digest / "m_sm90.profile").unlink()
    assert not cache.seems_to_hold(KEY)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)

    def fails(folder: Path) -> None:
        write(folder)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), cache.engine(KEY, fails, silent):
        pass
    with pytest.raises(EngineError, match="built no engine"), cache.engine(KEY, lambda _: None, silent):
        pass
    assert names(tmp_path) == set()
    fill(cache, KEY)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: flip(folder / "m_sm90.engine"), "m_sm90.engine has other bytes"),
        (
            lambda folder: (folder / "m_sm90.engine").write_bytes(ENGINE[:-1]),
            "m_sm90.engine has another size",
        ),
        (lambda folder: (folder / "m_sm90.engine").unlink(), "m_sm90.engine: No such file"),
        (lambda folder: (folder / "m_sm90.profile").write_bytes(b""), "m_sm90.profile has another size"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json: No such file"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "its manifest cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "its manifest cannot be read"),
        (
            lambda folder: (folder / MANIFEST).write_text('{"files": 1, "key": 2}'),
            "its manifest is of another one",
        ),
        (lambda folder: (folder / "other.engine").write_bytes(b"x"), "an engine that its build did not make"),
        (
            lambda folder: (folder / MANIFEST).write_text(json.dumps({"key": {"model": "b"}, "files": {}})),
            "its manifest is of another one",
        ),
        (
            lambda folder: (folder / MANIFEST).write_text(json.dumps({"key": dict(KEY.parts), "files": {}})),
            "its manifest names no engine",
        ),
    ],
)
def test_what_cannot_be_verified_is_built_again_and_said(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    cache = EngineCache(tmp_path)
    fill(cache, KEY)
    damage(tmp_path / KEY.digest)
    told: list[str] = []
    with cache.engine(KEY, write, told.append) as folder:
        assert (folder / "m_sm90.engine").read_bytes() == ENGINE
        assert {path.name for path in folder.iterdir()} == {"m_sm90.engine", "m_sm90.profile", MANIFEST}
    assert len(told) == 1
    assert said in told[0]
    assert "is thrown away and built again" in told[0]
    assert names(tmp_path) == {KEY.digest}


def test_an_engine_of_another_model_is_never_taken(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    fill(cache, key("a"))
    (tmp_path / key("a").digest).rename(tmp_path / key("b").digest)
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        write(folder)

    with cache.engine(key("b"), build, silent):
        assert built


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_engines=3)
    fill(cache, key("a"), key("b"), key("c"))
    for age, name in enumerate("cba"):
        os.utime(tmp_path / key(name).digest / MANIFEST, (1000 - age, 1000 - age))
    fill(cache, key("a"))  # used now
    told: list[str] = []
    with cache.engine(key("d"), write, told.append):
        pass
    assert names(tmp_path) == {key(name).digest for name in "acd"}
    assert len(told) == 1
    assert "removed from the cache" in told[0]


def test_the_cache_keeps_to_its_bytes_but_never_drops_what_was_just_built(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_bytes=len(ENGINE) * 5 // 2)
    fill(cache, key("a"), key("b"), key("c"))
    assert names(tmp_path) == {key("b").digest, key("c").digest}
    fill(EngineCache(tmp_path, max_bytes=1), key("d"))
    assert names(tmp_path) == {key("d").digest}


def test_an_engine_in_use_is_not_pruned(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_engines=1)
    with cache.engine(key("a"), write, silent) as folder:
        fill(cache, key("b"))
        assert (folder / MANIFEST).exists()
    fill(cache, key("c"))
    assert names(tmp_path) == {key("c").digest}


def test_a_folder_that_cannot_be_written_is_a_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "engines", Path("/proc/engines")):
        with pytest.raises(OutputError, match=r"set runtime\.cache_dir") as caught:
            fill(EngineCache(folder), KEY)
        assert str(folder) in str(caught.value)


def test_engines_that_an_image_brings_along_are_used_where_nothing_can_be_written() -> None:
    # Below no folder of this user's own: root, who may write anywhere, becomes somebody else for it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "engines"
        cache = EngineCache(folder)
        fill(cache, KEY)
        Path(name).chmod(0o755)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            with cache.engine(KEY, refuse_to_build, silent) as found:
                assert (found / MANIFEST).exists()
            with pytest.raises(OutputError, match=r"set runtime\.cache_dir"):
                fill(cache, key("another"))
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def refuse_to_build(folder: Path) -> None:
    raise AssertionError("it is there already")


def test_a_full_disk_is_a_clear_line(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    cache = EngineCache(tmp_path)
    with pytest.raises(OutputError, match="No space left on device"), cache.engine(KEY, build, silent):
        pass
    assert names(tmp_path) == set()


def test_timings_are_shared_by_models_and_not_by_gpus(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    parts = [{"model": m, "gpu": g} for m, g in itertools.product("ab", "xy")]
    assert len({cache.timings(EngineKey(each), ("gpu",)) for each in parts}) == 2
