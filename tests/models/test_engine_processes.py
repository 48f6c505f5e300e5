"""The engine cache with several processes, and with some that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamd.models.engines import EngineCache, EngineKey
from tests.support.engine_files import fill, key, names

ROOT = Path(__file__).parents[2]

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
