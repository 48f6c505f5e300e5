"""A GPU as decoder threads use it: memory for the pictures they prepare there, and sessions that prepare them."""

from __future__ import annotations

import threading
from typing import Any, Protocol
from weakref import WeakValueDictionary

from streamd.models.creation import create_whole
from streamd.models.memory import CudaMemory, Memory


class Device(Protocol):
    """Where pictures are prepared that were decoded there. Any thread."""

    number: int

    def memory(self) -> Memory:
        """Memory for one thread, made in that thread. Raises LibraryError."""
        ...

    def session(self, graph: bytes) -> Any:
        """ONNX Runtime's session of a graph, whole on this device; several threads may run it. Raises NotHereError.

        Whoever asks for the same graph gets the same session, as long as somebody keeps it.
        """
        ...


class CudaDevice:
    """An NVIDIA GPU on which the model runs."""

    def __init__(self, number: int) -> None:
        self.number = number
        # A session takes some ten megabytes there, and cameras mostly come in one size.
        self._sessions: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
        self._lock = threading.Lock()  # guards `_sessions`, and that none is made twice

    def memory(self) -> Memory:
        """See `Device.memory`."""
        return CudaMemory(self.number)

    def session(self, graph: bytes) -> Any:
        """See `Device.session`."""
        with self._lock:
            session = self._sessions.get(graph)
            if session is None:
                session = create_whole(graph, self._provider())
                self._sessions[graph] = session
            return session

    def _provider(self) -> tuple[str, dict[str, str]]:
        # The default doubles what it takes from the GPU each time.
        return "CUDAExecutionProvider", {
            "device_id": str(self.number),
            "arena_extend_strategy": "kSameAsRequested",
        }
