"""What is wrong in a configuration file, and where: one line for people for each fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from streamd.core.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]

_PRINTABLE_KEY = re.compile(r"[\w. -]{1,40}")


class Place(NamedTuple):
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a configuration file, as one line for people.

    `key` is the dotted path, empty for the file as a whole. `missing` means that nothing in the file need
    change: a file or a credential that it names is not there.
    """

    file: Path
    place: Place | None
    key: str
    problem: str
    missing: bool = False

    def __str__(self) -> str:
        where = str(self.file) if self.place is None else f"{self.file}:{self.place.line}"
        return f"{where}: {self.key}: {self.problem}" if self.key else f"{where}: {self.problem}"


class ConfigFaultsError(ConfigError):
    """Every fault of a configuration file; the message has one line for each.

    `exit_code` is 1 when all that is wrong is missing from the machine and not from the file.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
        self.exit_code = 1 if all(fault.missing for fault in faults) else 2


def dotted(keys: KeyPath) -> str:
    """`streams.gate.url`; a key with characters that no key has (it may hold a secret) is shown as `?`."""
    return ".".join(str(key) if _PRINTABLE_KEY.fullmatch(str(key)) else "?" for key in keys)
