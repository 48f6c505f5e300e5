"""Files that others named, and a disk without room."""

from __future__ import annotations

import errno
import os

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""An OSError's errno where nothing more can be written."""


def at_once(path: str, flags: int) -> int:
    """An opener for `open`: where the name is a pipe's, nobody is waited for. Raises OSError."""
    return os.open(path, flags | os.O_NONBLOCK)
