"""What a check may look at: the machine, the configuration, and what the checks before it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamd.diagnosis.finding import Item

if TYPE_CHECKING:
    from streamd.service.config import Config
    from streamd.service.loading import Reading


@dataclass(slots=True)
class Case:
    """One examination.

    path: the configuration's, absolute. scratch: a folder whose files the parent removes; None where there is none.
    root: below which the system's files are looked for.
    """

    environ: Mapping[str, str]
    path: Path | None = None
    scratch: Path | None = None
    root: Path = Path("/")
    found: dict[str, Item] = field(default_factory=dict)
    """The last item of each name."""
    _reading: Reading | None = None

    def read(self) -> Reading:
        """The configuration, read once. Raises StreamdError as `loading.read`."""
        from streamd.service.loading import read

        assert self.path is not None
        if self._reading is None:
            try:
                from streamd.service.configured import known_names

                tables = known_names()
            except ImportError:  # a broken onnxruntime, which has an item of its own
                tables = None
            self._reading = read(self.path, tables=tables, environ=self.environ)
        return self._reading

    @property
    def config(self) -> Config | None:
        """The configuration; None without one that can be read."""
        return self.read().config if self.is_ok("configuration") else None

    def is_ok(self, name: str) -> bool:
        """Whether an item of this name was found to be so."""
        item = self.found.get(name)
        return item is not None and item.state == "ok"

    def text(self, file: str) -> str:
        """A small file of the system, without blanks around it; "" where it cannot be read."""
        try:
            return (self.root / file).read_text(errors="replace").strip("\0 \n")
        except OSError:
            return ""
