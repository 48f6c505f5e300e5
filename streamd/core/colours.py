"""Who is shown colours."""

from __future__ import annotations

import os
from typing import TextIO


def coloured(file: TextIO | None) -> bool:
    """Whether the file is a terminal that knows colours, and nobody has refused them. None: a closed one."""
    # https://no-color.org: any value but an empty one
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    return not refused and is_terminal(file)


def is_terminal(file: TextIO | None) -> bool:
    """Whether somebody may sit there. None: a closed one."""
    return file is not None and file.isatty()
