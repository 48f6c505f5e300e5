"""A known model that the daemon runs: fetched at its first use, told of in the log."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from streamd.core.timing import NS_PER_S, now_ns
from streamd.models.catalogue import KnownModel
from streamd.models.store import store_of


def fetched(
    model: KnownModel,
    stop: threading.Event | None = None,
    waiting: Callable[[int, str], None] = lambda since_ns, text: None,
) -> Path:
    """The model's verified file, fetched where it is not here yet.

    `waiting` is called in this thread, each second while something comes: since when (monotonic ns), and how much
    is there. Setting `stop` ends it within a time-out of the network. Blocks. Raises FetchError, OutputError,
    UsageError.
    """
    store = store_of(os.environ)  # they alone say where caches belong
    if store.flaw(model) is None:
        return store.path(model)
    # Most starts fetch nothing, and need no HTTP for it.
    from streamd.models.download import Watch
    from streamd.models.pulling import pull

    logger.info("{}: fetching {} bytes from {}", model.name, model.bytes, store.address(model))
    started_ns = told_ns = now_ns()
    waiting(started_ns, f"fetching {model.name}")

    def progress(held: int) -> None:
        nonlocal told_ns
        if now_ns() - told_ns >= NS_PER_S:
            told_ns = now_ns()
            waiting(started_ns, f"fetching {model.name}: {held} of {model.bytes} bytes")

    watch = Watch(lambda line: logger.warning("{}", line), progress, stop or threading.Event())
    path = pull(store, model, watch)
    logger.info("{}: kept in {}", model.name, path)
    return path
