"""How `streamd top` looks: a daemon's overview as lines and a table, for any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamd.bus.versions import advice
from streamd.service.overview import Overview, StreamOverview

Row: TypeAlias = tuple[str, StreamOverview]
_STATES = ("lost", "stalled", "connecting", "live", "ended")
_SILENT_S = 3.0
_STAGES = ("decode", "preprocess", "queue", "infer", "postprocess", "publish")
_SHORTEST_NOTE = 24


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    rank: int
    """Where there is no room for all, the highest go first."""
    cell: Callable[[str, StreamOverview], str]
    left: bool = False


def _number(value: object, decimals: int = 0) -> str:
    """Nothing for what is not known."""
    return f"{value:.{decimals}f}" if isinstance(value, int | float) else ""


def _size(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _for(seconds: object) -> str:
    """A duration in its two largest units; nothing for what is not known."""
    if not isinstance(seconds, int | float):
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def _stages(stream: StreamOverview) -> str:
    return " ".join(_number(stream.stages_ms.get(name), 1) or "-" for name in _STAGES)


def _note(stream: StreamOverview) -> str:
    """Drops by reason, and why it is not live."""
    drops = sorted(stream.drops.items(), key=lambda item: -item[1]) if isinstance(stream.drops, dict) else []
    text = ", ".join(f"{reason} {number}" for reason, number in drops)
    if stream.state not in ("live", "ended") and isinstance(stream.detail, str):
        text = stream.detail + (f"; {text}" if text else "")
    return text


def _state(stream: StreamOverview) -> str:
    return f"{stream.state} ({stream.reason})" if isinstance(stream.reason, str) else stream.state


_NOTE = _Column("drops, trouble", 6, lambda name, stream: _note(stream), left=True)
_COLUMNS = (
    _Column("stream", 0, lambda name, stream: name, left=True),
    _Column("state", 1, lambda name, stream: _state(stream), left=True),
    _Column("for", 7, lambda name, stream: _for(stream.since_s)),
    _Column("fps", 2, lambda name, stream: _number(stream.fps, 1)),
    _Column("age p50", 8, lambda name, stream: _number(stream.age_p50_ms, 1)),
    _Column("p95 ms", 3, lambda name, stream: _number(stream.age_p95_ms, 1)),
    _Column("drop/s", 4, lambda name, stream: _number(stream.dropped_per_s, 1)),
    _Column("dropped", 9, lambda name, stream: str(stream.dropped)),
    _Column("lost", 5, lambda name, stream: str(stream.lost)),
    _Column("reconn", 11, lambda name, stream: _number(stream.reconnects)),
    _Column("pkt lost", 12, lambda name, stream: _number(stream.packets_lost)),
    _Column("dec pre que inf post pub ms", 10, lambda name, stream: _stages(stream)),
    _NOTE,
)

Order: TypeAlias = Callable[[str, StreamOverview], object]
ORDERS: dict[str, Order] = {
    "trouble": lambda name, stream: (
        _STATES.index(stream.state) if stream.state in _STATES else -1,
        -_size(stream.dropped_per_s),
    ),
    "name": lambda name, stream: name,
    "fps": lambda name, stream: -stream.fps,
    "age": lambda name, stream: -_size(stream.age_p95_ms),
    "drops": lambda name, stream: (
        -_size(stream.dropped_per_s),
        -stream.dropped,
    ),
    "lost": lambda name, stream: -stream.lost,
}
"""What the key `s` goes through; equal ones stand by name."""


def screen(found: Overview, order: str, width: int, height: int | None = None, footer: str = "") -> Group:
    """The whole picture for a terminal of this size; height None: as long as it is."""
    lines = [Text(line, style, no_wrap=True, overflow="ellipsis") for line, style in _head(found)]
    rows: list[Row] = sorted(found.streams.items())
    # The keys of one order are all of one kind, which the table of orders cannot say.
    rows.sort(key=lambda row: ORDERS[order](*row))  # type: ignore[arg-type,return-value]
    parts: list[RenderableType] = [*lines]
    if rows:
        room = len(rows) if height is None else max(1, height - len(lines) - 1 - (2 if footer else 1))
        parts.append(_table(rows[:room], width))
        if len(rows) > room:
            parts.append(Text(f"and {len(rows) - room} more", "dim"))
    if footer:
        parts.append(Text(footer, "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _head(found: Overview) -> list[tuple[str, str]]:
    """Lines and their styles."""
    lines: list[tuple[str, str]] = []
    if not isinstance(found.run, str):
        waited = "nothing heard so far; is a daemon running, and does its publish.bind say the same?"
        lines.append((f"{found.endpoint}: {waited}", "yellow"))
    else:
        streams = found.streams.values()
        live = sum(stream.state == "live" for stream in streams)
        lines.append(
            (
                f"streamd {found.version} on {found.endpoint}, up {_for(found.uptime_s)}, run {found.run}",
                "bold",
            )
        )
        lines.append((f"{found.model} on {found.provider}", ""))
        rate = sum(stream.fps for stream in streams)
        lost = sum(stream.lost for stream in streams)
        lines.append(
            (f"{live} of {len(streams)} streams live, {rate:.1f} results/s, {lost} lost on the bus", "")
        )
    if isinstance(found.silent_s, float) and found.silent_s >= _SILENT_S:
        lines.append((f"nothing heard for {_for(found.silent_s)}: what stands here is old", "bold red"))
    if found.restarts > 0:
        lines.append((f"the daemon was started again ({found.restarts} times since this began)", "yellow"))
    if isinstance(found.newer, str):
        lines.append((advice(found.newer), "bold red"))
    if isinstance(found.unreadable, str):
        lines.append((f"what comes on {found.unreadable} is no message of streamd", "bold red"))
    if isinstance(found.event, str) and not found.event.startswith("ready"):
        lines.append((f"last event: {found.event}", ""))
    if isinstance(found.metrics_problem, str):
        lines.append(
            (f"{found.metrics_problem}: drops by reason, reconnects and lost packets are not known", "yellow")
        )
    return lines


def _table(rows: Sequence[Row], width: int) -> Table:
    cells = {column: [column.cell(*row) for row in rows] for column in _COLUMNS}
    widths = {column: max(cell_len(column.title), *map(cell_len, cells[column])) for column in _COLUMNS}
    # What is too long of a note is cut, before columns are left out for it.
    widths[_NOTE] = min(widths[_NOTE], _SHORTEST_NOTE)
    shown = [column for column in _COLUMNS if any(cells[column])]
    while (spare := width - sum(widths[column] + 2 for column in shown)) < 0 and len(shown) > 2:
        shown.remove(max(shown, key=lambda column: column.rank))
    widths[_NOTE] += max(0, spare)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="reverse", expand=False)
    for column in shown:
        table.add_column(
            column.title,
            justify="left" if column.left else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=widths[column],
        )
    for i, (_, stream) in enumerate(rows):
        style = {"live": "", "ended": "dim", "connecting": "yellow"}.get(stream.state, "red")
        table.add_row(*(Text(cells[column][i]) for column in shown), style=style)
    return table
