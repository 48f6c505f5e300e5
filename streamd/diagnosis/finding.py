"""What a check found, and the report of all of them: `streamd doctor --json` writes one `Report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from streamd.core.text import utf8

if TYPE_CHECKING:
    from streamd.diagnosis.case import Case

SCHEMA = "streamd.doctor/1"
State: TypeAlias = Literal["ok", "missing", "wrong", "unused"]
ExitCode: TypeAlias = Annotated[int, Meta(ge=0, le=2)]


class Item(Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    state: `unused` is what is not there, or was not tried, and nothing here needs it. fix: lines for a shell; one
    that begins with # says what no command does; "" when there is nothing to mend. exit_code: 0 where streamd runs
    all the same, else what it would end with: 1 for what can be mended around it, 2 for a configuration or a model
    that has to be changed.
    """

    name: str
    state: State
    found: str
    fix: str = ""
    exit_code: ExitCode = 0


class Report(Struct, frozen=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    """All items in the order in which they were looked at. exit_code: the command's own."""

    version: str
    config: str | UnsetType = UNSET
    exit_code: ExitCode
    items: list[Item]


Find = Callable[["Case"], Iterable[Item]]


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table.

    name: of the item that tells that the check itself ended badly. limit_s: how long it may take. with_config: only
    once a configuration was read. needed: whether streamd cannot run here if the check ends badly.
    """

    name: str
    find: Find
    limit_s: float = 15.0
    with_config: bool = False
    needed: Callable[[Case], bool] = lambda case: False


def report_of(version: str, config: str | None, items: list[Item]) -> Report:
    """The items with the exit code that they come to."""
    worst = max((item.exit_code for item in items), default=0)
    return Report(
        version=version, config=UNSET if config is None else utf8(config), exit_code=worst, items=items
    )


encode = msgspec.json.Encoder().encode
