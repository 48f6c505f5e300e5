"""Waiting for what comes about by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(happened: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
