"""A session on the CPU that behaves as one with CUDA graphs does: it replays what it has captured, right or wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class PretendedGraphs:
    """ONNX Runtime's own session; what it is given after the first run is replaced by what was captured then.

    by_number: as CUDA's provider, which has a graph for each `gpu_graph_id` and thread; else as TensorRT's, which has
    one, whatever is asked. captures: the number and the thread of each capture.
    """

    def __init__(self, session: Any, *, by_number: bool, replay: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._by_number = by_number
        self._replay = replay
        self._graphs: dict[Any, tuple[Any, ...]] = {}
        self._inside = threading.Lock()
        self.captures: list[tuple[int, int]] = []
        self.replays = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *_: Any) -> None:
        raise AssertionError("a run in other memory than what is bound would capture that")

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        assert self._inside.acquire(blocking=False), "two runs at a time"
        try:
            number = int(options.get_run_config_entry("gpu_graph_id"))
            graph = (number, threading.get_ident()) if self._by_number else None
            if graph not in self._graphs:
                self.captures.append((number, threading.get_ident()))
                self._graphs[graph] = (binding,)
            else:
                self.replays += 1
                self._replay()
            self._session.run_with_iobinding(*self._graphs[graph])
        finally:
            self._inside.release()
