"""CPU time and memory as Linux keeps it, of this process's threads and of other processes."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path

from streamd.core.errors import StreamdError
from streamd.core.timing import NS_PER_S

_TASKS = Path("/proc/self/task")
_KIB = 1024


def require() -> None:
    """Raises StreamdError where there is no /proc."""
    if not _TASKS.is_dir():
        raise StreamdError(
            "streamd bench reads CPU time and memory from /proc, which this system does not have"
        )


def foreign_threads() -> set[int]:
    """The threads of this process that Python did not start: libraries' own pools."""
    ours = {thread.native_id for thread in threading.enumerate()}
    return {int(name) for name in os.listdir(_TASKS)} - ours


def threads_cpu_ns(numbers: set[int]) -> int:
    """CPU time so far of threads of this process; one that has ended counts 0."""
    return sum(_thread_cpu_ns(number) for number in numbers)


def _thread_cpu_ns(number: int) -> int:
    folder = _TASKS / str(number)
    try:
        return int((folder / "schedstat").read_text().split()[0])
    except FileNotFoundError:
        pass  # the thread is gone, or the kernel was built without these statistics
    try:
        return _stat_cpu_ns(folder / "stat")
    except FileNotFoundError:
        return 0


def process_cpu_s(pid: int) -> float:
    """CPU seconds so far of a process, its ended threads included. Raises OSError when there is none."""
    # The clock that clock_getcpuclockid(3) names, which Python does not have: finer than the 0.01 s of /proc.
    return time.clock_gettime((~pid << 3) | 2)


def _stat_cpu_ns(path: Path) -> int:
    # The name in brackets may hold blanks; what is counted here begins after it.
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * NS_PER_S // os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _KIB**2


def memory_mib() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _KIB**2


def processor() -> str | None:
    """What the machine calls its processor; None when it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.machine() or None)
