"""A model that somebody names becomes a file: fetched at its first use, with a bar on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streamd.cli import complain
from streamd.models.catalogue import KnownModel, named
from streamd.models.store import ModelStore, store_of

if TYPE_CHECKING:
    from streamd.models.download import Watch


def model_file(text: str) -> Path:
    """The file of a model that a command line names. Raises UsageError, FetchError, OutputError."""
    model = named(text)
    return pulled(model) if isinstance(model, KnownModel) else model


def pulled(model: KnownModel, store: ModelStore | None = None) -> Path:
    """A known model's verified file, fetched where it is not here yet. Blocks. Raises FetchError, OutputError.

    An interrupt may come at any moment: what has come is kept for the next time.
    """
    store = store or store_of(os.environ)  # the environment alone says where caches belong
    if store.flaw(model) is None:
        return store.path(model)
    from streamd.models.pulling import pull

    with _shown(model, store) as watch:
        return pull(store, model, watch)


@contextmanager
def _shown(model: KnownModel, store: ModelStore) -> Iterator[Watch]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from streamd.cli.console import console
    from streamd.models.download import Watch

    if not sys.stderr.isatty():
        complain(f"fetching {model.name} ({model.bytes / 1e6:.1f} MB) from {store.address(model)}")
        yield Watch(complain)
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"fetching {model.name}", total=model.bytes)
        yield Watch(
            lambda line: bar.console.print(f"streamd: {line}", markup=False, soft_wrap=True),
            lambda held: bar.update(task, completed=held),
        )
