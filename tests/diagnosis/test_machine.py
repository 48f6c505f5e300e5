"""The machine's own checks: this one's real values, and those of machines made of files."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from streamd.diagnosis import folders, machine
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item
from tests.service.test_unit import nobody


def only(items: Iterable[Item]) -> Item:
    (item,) = items
    return item


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("check", [machine.processor, machine.memory, machine.open_files])
def test_this_machine_is_fit(check: Callable[[Case], Iterable[Item]]) -> None:
    item = only(check(Case({})))
    assert item.state == "ok", item
    assert any(letter.isdigit() for letter in item.found)


def test_a_container_with_little_memory(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n")
    assert only(machine.memory(Case({}, root=tmp_path))).found == "4.0 of 8.0 GiB available"
    write(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path, "sys/fs/cgroup/a/b/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.max", f"{300 << 20}\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.current", f"{200 << 20}\n")
    item = only(machine.memory(Case({}, root=tmp_path)))
    assert item.state == "wrong"
    assert item.found == "4.0 of 8.0 GiB available, limited to 0.3 GiB: 100 MiB are left"
    assert only(machine.memory(Case({}, root=tmp_path / "none"))).state == "unused"


def test_a_quota_counts_as_cores(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "100000 100000\n")
    assert only(machine.processor(Case({}, root=tmp_path))).found.startswith("1 of ")


def test_too_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))
    try:
        item = only(machine.open_files(Case({})))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (item.state, item.exit_code) == ("wrong", 0)
    assert item.fix.startswith("ulimit -n 64\n")
    assert "LimitNOFILE=64" in item.fix


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    item = only(machine.clock(Case({})))
    assert item.found.startswith(time.strftime("%Y-", time.gmtime()))
    assert (item.state == "wrong") == ("not synchronised" in item.found)
    # Stands in for a box without a battery: the clock of this machine cannot be set back for a test.
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 1, 0, 3, 1, 0)))
    item = only(machine.clock(Case({})))
    assert (item.state, item.fix) == ("wrong", "timedatectl set-ntp true")
    assert "1970-01-01 00:01 UTC: before this version was made" in item.found


def test_a_cache_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "later" / "engines"
    item = only(folders.cache(Case({"CACHE_DIRECTORY": str(tmp_path / "later")})))
    assert item.state == "ok", item
    assert str(folder) in item.found
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/none", "/sys/none"])
def test_a_cache_on_what_cannot_be_written(place: str) -> None:
    item = only(folders.cache(Case({"CACHE_DIRECTORY": place})))
    assert item.state == "wrong"
    assert item.found.startswith(f"{place}/engines: ")


@pytest.mark.parametrize("mode", [0o555, 0o600])
def test_a_cache_that_belongs_to_others(mode: int) -> None:
    # pytest's own folders are closed to everybody else.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(mode)
        with nobody():
            item = only(folders.cache(Case({"CACHE_DIRECTORY": name})))
            user = os.geteuid()
        assert item.state == "wrong"
        if mode & 0o111:
            assert item.found == f"{name}/engines: this user may not write into {name}"
            assert item.fix.startswith(f"chown {user} {name}\n")
        else:
            assert item.found == f"{name}/engines: this user may not look into {name}"
            assert "chown" not in item.fix


def test_a_file_where_the_cache_should_be(tmp_path: Path) -> None:
    (tmp_path / "engines").touch()
    item = only(folders.cache(Case({"CACHE_DIRECTORY": str(tmp_path)})))
    assert item.found == f"{tmp_path}/engines: {tmp_path}/engines is no folder"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    # Stands in for a disk that is full, which cannot be had without mounting one.
    full = os.statvfs_result([*real[:4], 1, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    item = only(folders.cache(Case({"CACHE_DIRECTORY": str(tmp_path)})))
    assert item.state == "wrong"
    assert "0.0 GiB free: an engine may not fit" in item.found
