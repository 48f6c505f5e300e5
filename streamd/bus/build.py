"""Which ZeroMQ this is, and what it can do."""

from __future__ import annotations

import zmq


def versions() -> str:
    """`4.3.5 (pyzmq 27.1.0)`."""
    return f"{zmq.zmq_version()} (pyzmq {zmq.__version__})"


def can_encrypt() -> bool:
    """Whether it was built with CURVE."""
    return bool(zmq.has("curve"))
