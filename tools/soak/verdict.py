"""What came of a soak: figures, limits, and whether they hold."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MB_PER_H_AND_STREAM = 0.1
_JUDGED_FROM_H = 1 / 3
"""A slope over less than this says nothing."""


@dataclass(frozen=True)
class Limit:
    """One thing that was to hold."""

    name: str
    found: str
    allowed: str
    holds: bool | None
    """None: the run was too short to say."""


@dataclass(frozen=True)
class Slope:
    """A straight line through samples, with the standard error of its slope (as if samples were independent)."""

    per_h: float
    error: float


def slope_of(hours: Sequence[float], values: Sequence[float]) -> Slope | None:
    """By least squares; None for fewer than three samples."""
    if len(hours) < 3:
        return None
    middle, mean = statistics.fmean(hours), statistics.fmean(values)
    spread = sum((hour - middle) ** 2 for hour in hours)
    pairs = list(zip(hours, values, strict=True))
    per_h = sum((hour - middle) * (value - mean) for hour, value in pairs) / spread
    rest = sum((value - mean - per_h * (hour - middle)) ** 2 for hour, value in pairs)
    return Slope(per_h, math.sqrt(rest / (len(pairs) - 2) / spread))


def rows_of(path: Path, warm_up_s: float) -> list[dict[str, float]]:
    """The samples after the warm-up."""
    with path.open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if row["elapsed_s"] >= warm_up_s]


def steady(rows: Sequence[dict[str, float]], flapping: int) -> list[Limit]:
    """Threads stay the same; descriptors follow the connections that are open, and nothing else."""
    threads = [row["threads"] for row in rows]
    loose = [row["descriptors"] - row["live"] for row in rows]
    third = max(1, len(rows) // 3)
    return [
        Limit(
            "threads",
            f"{min(threads):.0f} to {max(threads):.0f}",
            "the same always",
            min(threads) == max(threads),
        ),
        Limit(
            "descriptors beyond those of live streams",
            f"{min(loose):.0f} to {max(loose):.0f}",
            f"a spread of {flapping + 2}: attempts under way, a scrape",
            max(loose) - min(loose) <= flapping + 2,
        ),
        Limit(
            "descriptors, last third against first",
            f"{statistics.median(loose[-third:]) - statistics.median(loose[:third]):+.1f}",
            "within 1",
            abs(statistics.median(loose[-third:]) - statistics.median(loose[:third])) <= 1,
        ),
    ]


def memory(rows: Sequence[dict[str, float]], cameras: int) -> list[Limit]:
    """Whether memory is flat; the process's own pages apart from those of files."""
    hours = [row["elapsed_s"] / 3600 for row in rows]
    allowed = MB_PER_H_AND_STREAM * cameras
    limits = []
    for column in ("rss_kb", "anonymous_kb"):
        slope = slope_of(hours, [row[column] / 1024 for row in rows])
        if slope is not None:
            judged = hours[-1] - hours[0] >= _JUDGED_FROM_H
            # A heap that settles and one that leaks begin alike: the later half tells them apart.
            half = len(rows) // 2
            later = slope_of(hours[half:], [row[column] / 1024 for row in rows[half:]])
            limits.append(
                Limit(
                    f"{column.removesuffix('_kb')} memory",
                    f"{slope.per_h:+.2f} MB/h (±{2 * slope.error:.2f}), "
                    f"its later half {later.per_h if later else math.nan:+.2f}, "
                    f"{rows[0][column] / 1024:.1f} to {rows[-1][column] / 1024:.1f} MB",
                    f"{allowed:.1f} MB/h",
                    slope.per_h <= allowed if judged else None,
                )
            )
    return limits


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p95 and the largest."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    at = {
        f"p{share}": ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share / 100) - 1)]
        for share in (50, 95)
    }
    return {
        "count": len(ordered),
        **{key: round(value, 2) for key, value in at.items()},
        "max": round(ordered[-1], 2),
    }


def write(folder: Path, figures: dict[str, Any], limits: Sequence[Limit]) -> bool:
    """summary.json and summary.md; whether all limits hold."""
    holds = all(limit.holds is not False for limit in limits)
    figures = {"holds": holds, "limits": [asdict(limit) for limit in limits], **figures}
    (folder / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
    lines = [
        f"# Soak: {'all limits hold' if holds else 'LIMITS BROKEN'}",
        "",
        "| what | found | allowed | |",
        "|---|---|---|---|",
    ]
    word = {True: "holds", False: "BROKEN", None: "too short to say"}
    lines += [f"| {limit.name} | {limit.found} | {limit.allowed} | {word[limit.holds]} |" for limit in limits]
    lines += [
        "",
        "```json",
        json.dumps({k: v for k, v in figures.items() if k != "limits"}, indent=2),
        "```",
        "",
    ]
    (folder / "summary.md").write_text("\n".join(lines))
    return holds
