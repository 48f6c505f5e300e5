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

`import streamd` loads none of the heavy libraries; `streamd.subscribe` and `streamd.pictures` load pyzmq when first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamd.bus.client import Subscription, subscribe
    from streamd.bus.viewer import Pictures, pictures

__version__ = "0.1.0"
__all__ = ["Pictures", "Subscription", "__version__", "pictures", "subscribe"]


def __getattr__(name: str) -> Any:
    if name in ("subscribe", "Subscription"):
        from streamd.bus import client

        return getattr(client, name)
    if name in ("pictures", "Pictures"):
        from streamd.bus import viewer

        return getattr(viewer, name)
    raise AttributeError(f"module 'streamd' has no attribute {name!r}")
