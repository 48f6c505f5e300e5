"""The engine cache with real files, locks and processes; a build is a function that writes files."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamd.core.errors import OutputError
from streamd.models import tensorrt
from streamd.models.contract import Graph, InputShape, Tensor
from streamd.models.engines import (
    MANIFEST,
    EngineCache,
    EngineError,
    EngineKey,
    model_digest,
)

ROOT = Path(__file__).parents[2]
KEY = EngineKey({"model": "a", "gpu": {"name": "x"}, "batches": [1, 8]})
ENGINE = b"an engine" * 1000


def key(name: str) -> EngineKey:
    return EngineKey({"model": name})


def silent(_: str) -> None:
    pass


def write(folder: Path) -> None:
    (folder / "m_sm90.engine").write_bytes(ENGINE)
    (folder / "m_sm90.profile").write_bytes(b"profile")


def never(_: Path) -> None:
    raise AssertionError("built although it was there")


def fill(cache: EngineCache, *keys: EngineKey) -> None:
    for wanted in keys:
        with cache.engine(wanted, write, silent):
            pass


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


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


PROCESS = """
import sys, time
from pathlib import Path
from streamd.models.engines import EngineCache, EngineKey
folder, mark = Path(sys.argv[1]), Path(sys.argv[2])
def build(work):
    (work / "m.engine").write_bytes(b"half")
    print("building", flush=True)
    while not mark.exists():
        time.sleep(0.005)
    (work / "m.engine").write_bytes(b"whole")
key, say = EngineKey({"model": "a"}), lambda line: print(line, flush=True)
with EngineCache(folder).engine(key, build, say) as engine:
    print((engine / "m.engine").read_bytes().decode(), flush=True)
"""


@pytest.fixture
def start(tmp_path: Path):
    """Starts a real process that opens the engine and builds it until `tmp_path/go` is there."""
    running: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROCESS, str(tmp_path / "engines"), str(tmp_path / "go")]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_waits_for_the_first_ones_build(start, tmp_path: Path) -> None:
    first = start()
    assert line(first) == "building"
    others = [start(), start()]
    for other in others:
        assert line(other) == "another process builds this engine; waiting for it"
    (tmp_path / "go").touch()
    assert line(first) == "whole"
    for other in others:
        assert "building" not in (rest := other.communicate(timeout=30)[0])
        assert rest.splitlines()[-1] == "whole"


def test_a_killed_build_leaves_nothing_to_trust_and_nobody_waiting(start, tmp_path: Path) -> None:
    first = start()
    assert line(first) == "building"
    second = start()
    assert line(second) == "another process builds this engine; waiting for it"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert line(second) == "building", "the kernel gave the dead one's lock away"
    second.send_signal(signal.SIGKILL)
    second.wait()
    left = names(tmp_path / "engines")
    assert {name.split(".")[1][:5] for name in left} == {"build"}
    (tmp_path / "go").touch()
    third = start()
    assert third.communicate(timeout=30)[0].splitlines() == ["building", "whole"]
    assert names(tmp_path / "engines") == {key("a").digest}


def test_what_killed_builds_of_other_engines_left_goes_at_the_next_build(start, tmp_path: Path) -> None:
    first = start()
    assert line(first) == "building"
    first.kill()
    first.wait()
    fill(EngineCache(tmp_path / "engines"), key("b"))
    assert names(tmp_path / "engines") == {key("b").digest}


def test_a_build_under_way_is_not_taken_for_one_that_was_killed(start, tmp_path: Path) -> None:
    first = start()
    assert line(first) == "building"
    fill(EngineCache(tmp_path / "engines"), key("b"))
    (tmp_path / "go").touch()
    assert first.communicate(timeout=30)[0].strip() == "whole"
    assert names(tmp_path / "engines") == {key("a").digest, key("b").digest}


KILLED = """
import sys
from pathlib import Path
from streamd.models.engines import EngineCache, EngineKey
def build(work):
    for n in range(40):
        (work / f"{n}.engine").write_bytes(bytes([n]) * 50_000)
print("up", flush=True)
for n in range(1000):
    cache = EngineCache(Path(sys.argv[1]), max_engines=2)
    with cache.engine(EngineKey({"model": n % 4}), build, lambda line: None):
        pass
"""


CROWD = """
import random, sys
from pathlib import Path
from streamd.models.engines import EngineCache, EngineKey
cache, chance = EngineCache(Path(sys.argv[1]), max_engines=2), random.Random(int(sys.argv[2]))
for _ in range(25):
    n = chance.randrange(5)
    def build(work):
        (work / "folder").mkdir()
        (work / "folder" / "more").write_bytes(b"more")
        (work / "m.engine").write_bytes(bytes([n]) * 2000)
    with cache.engine(EngineKey({"model": n}), build, lambda line: None) as engine:
        assert (engine / "m.engine").read_bytes() == bytes([n]) * 2000
"""


@pytest.mark.slow
def test_a_crowd_of_processes_builds_uses_and_prunes_without_harm(tmp_path: Path) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(tmp_path), str(seed)], cwd=ROOT, stderr=subprocess.PIPE
        )
        for seed in range(4)
    ]
    for process in crowd:
        complaint = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 0, complaint
    assert not [name for name in names(tmp_path) if "." in name], "nothing half built or half removed is left"


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", [3, 17, 40, 90])
def test_a_kill_at_any_moment_leaves_engines_that_are_whole(tmp_path: Path, delay_ms: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    time.sleep(delay_ms / 1000)
    process.kill()
    process.communicate()
    cache = EngineCache(tmp_path)
    for n in range(4):
        assert cache.flaw(EngineKey({"model": n})) in (None, "")


def graph(batch: int | str | None, size: int | str = 640, *further: Tensor, name: str = "images") -> Graph:
    shape = InputShape(name, 640, 640, True, np.dtype(np.float32), batch if isinstance(batch, int) else None)
    return Graph((Tensor(name, "float32", (batch, 3, size, size)), *further), (), {}, shape)


SIZES = Tensor("orig_target_sizes", "int64", ("n", 2))


def documented() -> dict[str, str]:
    """The table of options in the module's docstring."""
    rows = re.findall(r"^\| (\w+) \| (.+?) \| (.*?) ?\|$", tensorrt.__doc__ or "", re.MULTILINE)
    return {name: value for name, value, _ in rows if name != "option"}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("described", [graph("n"), graph(1), graph(None, "size", SIZES), graph(4, "size")])
def test_the_options_handed_over_are_the_documented_ones(precision: str, described: Graph) -> None:
    options = tensorrt.tensorrt_options(described, 8, precision, 2, Path("/c/key"), Path("/c/timings"))
    free = described.inputs[0].shape != (1, 3, 640, 640)
    fixed = described.input.batch
    meanings = {
        "`runtime.device`": "2",
        "1 for fp16, else 0": "1" if precision == "fp16" else "0",
        "the engine's own folder": "/c/key",
        "a folder for this GPU, driver and TensorRT": "/c/timings",
        "every input with 1 picture": tensorrt.profile(described, fixed or 1),
        "every input with `batch.limit` pictures": tensorrt.profile(described, fixed or 8),
    }
    expected = {name: meanings.get(value, value) for name, value in documented().items()}
    if not free:
        expected = {name: value for name, value in expected.items() if "profile" not in name}
    assert options == expected
    assert len(documented()) == 10


def test_profiles_name_every_input_or_none() -> None:
    assert tensorrt.profile(graph("n", "s", SIZES), 8) == "images:8x3x640x640,orig_target_sizes:8x2"
    for name in ("images:0", "a,b"):
        with pytest.raises(ValueError, match="rename it"):
            tensorrt.profile(graph("n", name=name), 1)


def test_every_option_is_one_that_this_onnx_runtime_knows() -> None:
    import onnxruntime

    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    if not library.exists():
        pytest.skip("gpu: onnxruntime without its TensorRT provider")
    content = library.read_bytes()
    asked = tensorrt.writing_context(dict.fromkeys(documented(), ""), Path("/c"))
    assert len(asked) == len(documented()) + 3
    assert [name for name in asked if name.encode() + b"\0" not in content] == []


def test_options_that_only_say_where_are_not_in_the_key() -> None:
    one, two = (tensorrt.tensorrt_options(graph("n"), 8, "fp16", 0, Path(p), Path(p)) for p in "ab")
    assert one != two
    assert tensorrt.without_paths(one) == tensorrt.without_paths(two)
    assert "trt_profile_max_shapes" in tensorrt.without_paths(one)


def test_a_context_model_lies_beside_its_engine_and_names_it_relatively() -> None:
    plain = tensorrt.tensorrt_options(graph("n"), 8, "fp16", 0, Path("/c/key"), Path("/c/timings"))
    asked = tensorrt.writing_context(plain, Path("/c/key"))
    changed = {name: value for name, value in asked.items() if plain.get(name) != value}
    assert changed == {
        "trt_engine_cache_path": "",
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": "/c/key/model_ctx.onnx",
        "trt_ep_context_embed_mode": "0",
    }


def test_timings_are_shared_by_models_and_not_by_gpus(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    parts = [{"model": m, "gpu": g} for m, g in itertools.product("ab", "xy")]
    assert len({cache.timings(EngineKey(each), ("gpu",)) for each in parts}) == 2
