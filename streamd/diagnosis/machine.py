"""The machine under the daemon: processor, memory, descriptors, clock."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from streamd.core.cores import usable_cores
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item

_GIB, _MIB = 1 << 30, 1 << 20
_LITTLE = 256 * _MIB
"""Below this little is left for a model: a daemon with 12 cameras and a small one takes 160 MB."""
_FILES, _FILES_A_STREAM = 64, 8
"""Descriptors: a daemon without cameras has 19, a camera over UDP takes 5; the rest is for subscribers."""
_YEAR = 2026  # this version is not older
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)


class _Timex(ctypes.Structure):
    """The head of adjtimex(2)'s structure; `rest` is more than there is of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("max_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def processor(case: Case) -> Iterator[Item]:
    """The cores that the process may use."""
    there = os.cpu_count() or 1
    usable = usable_cores(case.root / "sys/fs/cgroup", case.root / "proc/self/cgroup")
    limited = " (affinity or a quota of processor time)" if usable < there else ""
    yield Item(name="processor", state="ok", found=f"{usable} of {there} cores{limited}")


def memory(case: Case) -> Iterator[Item]:
    """What is free, by the machine's count and by the control groups'."""
    sizes = dict(line.split(":", 1) for line in case.text("proc/meminfo").splitlines() if ":" in line)
    try:
        total, free = (int(sizes[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        yield Item(name="memory", state="unused", found="/proc/meminfo does not tell")
        return
    found = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB available"
    for limit, used in _limits(case):
        if limit < total:
            found += f", limited to {limit / _GIB:.1f} GiB"
            free = min(free, limit - used)
    if free >= _LITTLE:
        yield Item(name="memory", state="ok", found=found)
        return
    fix = "# end other programs, or give the container or service more (--memory, MemoryMax=)"
    yield Item(name="memory", state="wrong", found=f"{found}: {max(free, 0) // _MIB} MiB are left", fix=fix)


def _limits(case: Case) -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of the narrowest control group that this process is in (cgroups(7))."""
    found = []
    for line in case.text("proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = Path("sys/fs/cgroup") / ("memory" if controllers else "")
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            limit, used = (case.text(str(mount / group / name)) for name in names)
            if limit.isdigit():
                found.append((int(limit), int(used) if used.isdigit() else 0))
    yield from sorted(found)[:1]


def open_files(case: Case) -> Iterator[Item]:
    """The limit of descriptors against what the streams take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = case.config
    streams = 0 if config is None else sum(stream.enabled for stream in config.streams)
    wanted = _FILES + _FILES_A_STREAM * streams
    limit = "any number" if soft == resource.RLIM_INFINITY else str(soft)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield Item(name="open files", state="ok", found=f"{limit} allowed; about {wanted} wanted")
        return
    fix = f"ulimit -n {wanted}\n# under systemd: LimitNOFILE={wanted} (systemctl edit streamd)"
    if hard != resource.RLIM_INFINITY and hard < wanted:
        fix = (
            f"# raise the hard limit, {hard}, first (limits.conf, or the container's --ulimit nofile)\n{fix}"
        )
    found = f"{limit} allowed; {streams} streams and their readers want about {wanted}"
    yield Item(name="open files", state="wrong", found=found, fix=fix)


def clock(case: Case) -> Iterator[Item]:
    """Wall time goes into every result; nothing else depends on it."""
    now = time.gmtime()
    shown = time.strftime("%Y-%m-%d %H:%M UTC", now)
    fix = "timedatectl set-ntp true"
    if now.tm_year < _YEAR:
        found = f"{shown}: before this version was made; results would carry that time"
        yield Item(name="clock", state="wrong", found=found, fix=fix)
        return
    synchronised = _synchronised()
    if synchronised is None:
        yield Item(
            name="clock", state="ok", found=f"{shown}; the kernel does not tell whether it is synchronised"
        )
    elif synchronised:
        yield Item(name="clock", state="ok", found=f"{shown}, synchronised")
    else:
        found = f"{shown}, not synchronised: times in results may be off"
        yield Item(name="clock", state="wrong", found=found, fix=fix)


def _synchronised() -> bool | None:
    """What the kernel was told by whoever keeps its clock; None where it does not tell."""
    state = _Timex()
    try:
        code = ctypes.CDLL(None).adjtimex(ctypes.byref(state))
    except AttributeError:  # not Linux
        return None
    return None if code < 0 else not state.status & _UNSYNCHRONISED
