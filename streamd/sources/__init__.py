"""A URL becomes pictures: one attempt. Trying again is for whoever owns the stream.

Read `source` (what is asked, what is offered), then `libav/` and `rtsp/` (how). A new scheme is one file and one
row here. Importing this package loads no media library; opening a source does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import cast

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import scheme_of, shown
from streamd.sources.source import Hardware, Kind, Reader, Source, SourceRequest, Tls, Transport

__all__ = [
    "SCHEMES",
    "Hardware",
    "Kind",
    "Reader",
    "Scheme",
    "Source",
    "SourceRequest",
    "Tls",
    "Transport",
    "open_source",
]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A row of the table. `opener` is "module:function" of a `(SourceRequest, threading.Event) -> Source`."""

    kind: Kind
    opener: str


SCHEMES = MappingProxyType(
    {
        "file": Scheme(Kind.FILE, "streamd.sources.libav.files:open_file"),
        "rtsp": Scheme(Kind.RTSP, "streamd.sources.rtsp.opening:open_rtsp"),
        "rtsps": Scheme(Kind.RTSP, "streamd.sources.rtsp.opening:open_rtsp"),
        "http": Scheme(Kind.HTTP, "streamd.sources.libav.network:open_http"),
        "https": Scheme(Kind.HTTP, "streamd.sources.libav.network:open_http"),
        "test": Scheme(Kind.TEST, "streamd.sources.synthetic.source:open_test"),
        "v4l2": Scheme(Kind.DEVICE, "streamd.sources.libav.devices:open_v4l2"),
    }
)
"""What can be opened, by the scheme of its address."""


def open_source(request: SourceRequest, stop: threading.Event) -> Source:
    """Open a source, once. Use the result with `with`, in the calling thread.

    How long it blocks, the openers say. RTSP looks at `stop` meanwhile, the others only while reading. Raises
    SourceError, its message one line without credentials.
    """
    scheme = scheme_of(request.url)
    if scheme not in SCHEMES:
        raise SourceError(
            Reason.ERROR,
            f"{shown(request.url)}: {scheme}: is no known source; there are paths and {', '.join(SCHEMES)}",
        )
    module, name = SCHEMES[scheme].opener.split(":")
    opener = cast("Callable[[SourceRequest, threading.Event], Source]", getattr(import_module(module), name))
    return opener(request, stop)
