"""What the daemon's process takes, and whether its counters balance: one row of a table at a time."""

from __future__ import annotations

import csv
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tools.soak.watch import Problems, Watch

COLUMNS = (
    "elapsed_s", "rss_kb", "pss_kb", "anonymous_kb", "threads", "descriptors", "cpu_s", "cameras_cpu_s",
    "live", "published", "dropped", "skipped", "log_bytes",
)  # fmt: skip
_MOST_IN_FLIGHT = 16
_TICKS = os.sysconf("SC_CLK_TCK")
_ROW = re.compile(r"^streamd_(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_DROPS = {"ring_full", "stale", "rate_limit", "corrupt", "model_changed", "removed", "shutdown"}


@dataclass
class Counters:
    """One stream at one scrape."""

    decoded: int = 0
    published: int = 0
    in_flight: int = 0
    up: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    reconnects: dict[str, int] = field(default_factory=dict)


def counters_of(page: str, streams: Collection[str]) -> dict[str, Counters]:
    """The page /metrics, by stream."""
    found = {name: Counters() for name in streams}
    for name, labels, text in _ROW.findall(page):
        label = dict(_LABEL.findall(labels))
        if "stream" not in label or "stage" in label or "le" in label:
            continue
        value, row, reason = int(float(text)), found[label["stream"]], label.get("reason", "")
        if name == "frames_decoded_total":
            row.decoded = value
        elif name == "results_published_total":
            row.published = value
        elif name == "frames_in_flight":
            row.in_flight = value
        elif name == "stream_up":
            row.up = value == 1
        elif name == "frames_dropped_total" and value:
            row.dropped[reason] = value
        elif name == "packets_skipped_total" and value:
            row.skipped[reason] = value
        elif name == "reconnects_total" and value:
            row.reconnects[reason] = value
    return found


def judge(
    now: Mapping[str, Counters], before: Mapping[str, Counters], watch: Watch, problems: Problems
) -> None:
    """Every stream balances, no counter falls, and no picture is missing that is not counted as skipped."""
    for name, row in now.items():
        total = row.published + sum(row.dropped.values()) + row.in_flight
        if row.decoded != total or not row.decoded:
            problems.add("conservation", f"{name}: {row}")
        if not 0 <= row.in_flight <= _MOST_IN_FLIGHT:
            problems.add("conservation", f"{name}: {row.in_flight} in flight")
        if row.dropped.keys() - _DROPS or "error" in row.reconnects:
            problems.add("reason", f"{name}: {row.dropped}, {row.reconnects}")
        if name in before and (row.decoded < before[name].decoded or row.published < before[name].published):
            problems.add("conservation", f"{name}: {row} after {before[name]}")
        seen = watch.streams[name]
        if seen.missing > sum(row.skipped.values()):
            problems.add("picture", f"{name}: {seen.missing} pictures missing, {row.skipped} counted")
        if seen.flapping:
            continue
        if row.reconnects:
            problems.add("disturbed", f"{name}: {row.reconnects}")
        if name in before and row.published == before[name].published:
            problems.add("disturbed", f"{name}: no result since the last sample")


def process_row(pid: int) -> dict[str, int | float]:
    """Memory, threads, descriptors and CPU seconds of a process. Raises OSError when it has gone."""
    folder = Path("/proc") / str(pid)
    memory = {
        key: int(value.split()[0])
        for key, _, value in (
            line.partition(":") for line in (folder / "smaps_rollup").read_text().splitlines()[1:]
        )
    }
    return {
        "rss_kb": memory["Rss"],
        "pss_kb": memory["Pss"],
        "anonymous_kb": memory["Anonymous"],
        "threads": len(os.listdir(folder / "task")),
        "descriptors": len(os.listdir(folder / "fd")),
        "cpu_s": cpu_s(pid),
    }


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Table:
    """The samples as a CSV file, a line each, written at once."""

    def __init__(self, path: Path, streams: Collection[str]) -> None:
        self._file: TextIO = path.open("w", newline="")
        self._rows = csv.DictWriter(self._file, [*COLUMNS, *(f"fps_{name}" for name in streams)])
        self._rows.writeheader()
        self._started = time.monotonic()
        self._last = self._started

    def lap_s(self) -> float:
        """Seconds since the last lap."""
        before, self._last = self._last, time.monotonic()
        return self._last - before

    def add(self, row: Mapping[str, int | float]) -> None:
        """One sample; the time is added."""
        self._rows.writerow({"elapsed_s": round(self._last - self._started, 1), **row})
        self._file.flush()

    def close(self) -> None:
        self._file.close()
