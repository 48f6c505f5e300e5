"""Where tables and bars are shown."""

from __future__ import annotations

import sys

from rich.console import Console

from streamd.core.colours import coloured, is_terminal


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Rich's, which decides nothing itself: FORCE_COLOR would have it write colours into pipes."""
    file = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        width=width,
        highlight=False,
        force_terminal=is_terminal(file),
        no_color=not coloured(file),
    )
