"""How many processor cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_HIERARCHIES = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cores(hierarchies: Path = _HIERARCHIES, own: Path = _OWN) -> int:
    """Whole cores, at least 1: those it may run on, and no more than the time that its control groups allow it.

    A container's `--cpus 2` and systemd's `CPUQuota=200%` leave all cores in sight, so that only the quota tells.
    Reads some small files (cgroups(7): `cpu.max` of version 2, `cpu.cfs_quota_us` of version 1); what cannot be read
    sets no limit.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([float(cores), *_quotas(hierarchies, own)])))


def _quotas(hierarchies: Path, own: Path) -> Iterator[float]:
    """The cores' worth of time that each group allows which this process is in, those above it too."""
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounted = (hierarchies, hierarchies / "unified")
        elif "cpu" in controllers.split(","):
            mounted = (hierarchies / "cpu", hierarchies / "cpu,cpuacct")
        else:
            continue
        inside = Path(path.lstrip("/"))
        for mount in mounted:
            for group in (inside, *inside.parents):
                quota = _read(mount / group / "cpu.max").split() or [
                    *_read(mount / group / "cpu.cfs_quota_us").split(),
                    *_read(mount / group / "cpu.cfs_period_us").split(),
                ]
                if len(quota) == 2 and quota[0].isdigit() and int(quota[1]) > 0:  # else "max", or -1
                    yield int(quota[0]) / int(quota[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
