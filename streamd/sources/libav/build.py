"""Which FFmpeg this is."""

from __future__ import annotations

import av

_SHOWN = ("libavcodec", "libavformat", "libswscale")


def version() -> str:
    """FFmpeg's version, or where PyAV does not tell it, libavcodec's."""
    found = getattr(av, "ffmpeg_version_info", None)
    return str(found) if found else f"libavcodec {_number('libavcodec')}"


def pyav() -> str:
    """PyAV's own version."""
    return str(av.__version__)


def versions() -> str:
    """`8.1.2 (PyAV 18.1.0; libavcodec 62.28.102, ...)`."""
    parts = ", ".join(f"{name} {_number(name)}" for name in _SHOWN)
    return f"{version()} (PyAV {pyav()}; {parts})"


def _number(library: str) -> str:
    return ".".join(map(str, av.library_versions[library]))
