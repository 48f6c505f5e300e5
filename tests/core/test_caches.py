"""Where caches lie when nothing is configured."""

from __future__ import annotations

from pathlib import Path

from streamd.core.caches import cache_folder


def test_systemd_is_asked_before_the_user() -> None:
    both = {"CACHE_DIRECTORY": "/var/cache/streamd:/x", "HOME": "/root"}
    assert cache_folder(both, "engines") == Path("/var/cache/streamd/engines")
    assert cache_folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "models") == Path("/c/streamd/models")
    relative = {"XDG_CACHE_HOME": "relative", "HOME": "/h"}
    assert cache_folder(relative, "engines") == Path("/h/.cache/streamd/engines")
