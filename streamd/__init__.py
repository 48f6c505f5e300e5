"""streamd: real-time object detection on cameras and video files, published over ZeroMQ.

The packages in the order of a frame's life; each imports only those above it:

core      errors, time, what travels, secrets, threads
sources   a URL -> pictures, one attempt
models    pictures -> model input -> detections
pipeline  the frame's path: slots, rings, ledger, decoder, worker, outbox
bus       the messages, the publisher, the client
service   config, streams, daemon, offline runs
benchmark what a box can do, measured on all of the above
diagnosis what a machine has and lacks
cli       one file per verb; the only place that prints

`import streamd` loads none of the heavy libraries; `streamd.subscribe`, `messages` and `pictures` load pyzmq and
msgspec when first used, and need nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamd.bus.client import Messages, Subscription, messages, subscribe
    from streamd.bus.viewer import Pictures, pictures
    from streamd.core.errors import StreamdError

__version__ = "0.1.0"
__all__ = [
    "Messages",
    "Pictures",
    "StreamdError",
    "Subscription",
    "__version__",
    "messages",
    "pictures",
    "subscribe",
]

_HOMES = {
    "Messages": "streamd.bus.client",
    "Pictures": "streamd.bus.viewer",
    "StreamdError": "streamd.core.errors",
    "Subscription": "streamd.bus.client",
    "messages": "streamd.bus.client",
    "pictures": "streamd.bus.viewer",
    "subscribe": "streamd.bus.client",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'streamd' has no attribute {name!r}")
