from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamd.core.cores import usable_cores

ALL = len(os.sched_getaffinity(0))


def tree(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "own").write_text(own)
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/\n", {"cpu.max": "100000 100000"}),  # a container that sees its own group as the root
        ("0::/system.slice/streamd.service\n", {"system.slice/streamd.service/cpu.max": "150000 100000"}),
        ("0::/a/b/c\n", {"a/cpu.max": "50000 100000", "a/b/c/cpu.max": "max 100000"}),
        (
            "9:name=systemd:/\n4:cpu,cpuacct:/docker/x\n0::/\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "100000", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000"},
        ),
    ],
)  # fmt: skip
def test_a_quota_below_the_cores_in_sight_counts(tmp_path: Path, own: str, files: dict[str, str]) -> None:
    assert usable_cores(*tree(tmp_path, own, files)) == 1


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}),
        ("0::/\n", {"cpu.max": f"{(ALL + 7) * 100000} 100000"}),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}),
        ("3:memory:/\n", {"memory/cpu.max": "100000 100000"}),  # of no group that counts time
        ("", {}),
    ],
)
def test_without_a_quota_all_cores_count(tmp_path: Path, own: str, files: dict[str, str]) -> None:
    assert usable_cores(*tree(tmp_path, own, files)) == ALL


def test_it_runs_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "neither") == ALL


def test_here_it_is_at_least_one_and_at_most_all() -> None:
    assert 1 <= usable_cores() <= ALL


@pytest.mark.skipif(ALL < 2, reason="needs two cores to tell one from all")
def test_the_cores_that_it_is_bound_to_count(tmp_path: Path) -> None:
    all_cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(all_cores)})
        assert usable_cores(tmp_path, tmp_path / "own") == 1
    finally:
        os.sched_setaffinity(0, all_cores)
