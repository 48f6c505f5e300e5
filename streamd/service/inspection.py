"""What a configuration comes to on this machine: the files that it names, and what would run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from streamd.service.config import Config, Stream
from streamd.service.faults import Fault, KeyPath
from streamd.service.loading import Reading
from streamd.sources import Kind

_INTENTS = {"live": "live", "every": "every frame", "auto": "live, or every frame if it has an end"}


def absent_files(reading: Reading) -> tuple[Fault, ...]:
    """A fault for every file that the configuration names and that is not there; a restart may find it."""
    return tuple(
        reading.document.fault(
            keys, f"{path if shown else 'it'} is not there, or may not be read", missing=True
        )
        for keys, path, shown in _files(reading.config)
        if not os.access(path, os.R_OK)
    )


def _files(config: Config) -> Iterator[tuple[KeyPath, Path, bool]]:
    """Every file by its key, and whether its name may be shown."""
    yield ("model", "path"), config.model.path, True
    if isinstance(config.model.labels, Path):
        yield ("model", "labels"), config.model.labels, True
    for stream in config.streams:
        if stream.tls.ca is not None:
            yield ("streams", stream.id, "tls", "ca"), stream.tls.ca, True
        if stream.enabled and stream.kind is Kind.FILE:
            yield ("streams", stream.id, "url"), Path(stream.url), stream.url == stream.shown_url


def summary(config: Config) -> list[str]:
    """What would run, a line each; without secrets."""
    running = [stream for stream in config.streams if stream.enabled]
    first, *others = config.runtime.providers
    then = f", then {', '.join(others)}" if config.runtime.fallback and others else ", nothing else"
    lines = [
        f"model {config.model.path.name}: head {config.model.head}, on {first}{then}",
        f"batches of up to {config.batch.limit}",
        f"{len(running)} of {len(config.streams)} streams enabled",
        *map(_stream_line, running),
        f"results on {config.publish.bind}",
        f"metrics on {config.metrics.listen}" if config.metrics.listen else "metrics off",
    ]
    if config.publish.bind.startswith("tcp://") and not _is_loopback(config.publish.bind):
        lines.append("anyone who reaches this address can read the results: they are not encrypted")
    return lines


def _stream_line(stream: Stream) -> str:
    age = f", no older than {stream.max_age_ms} ms" if stream.max_age_ms else ""
    return f"stream {stream.id}: {_INTENTS[stream.intent]}{age}, from {stream.shown_url}"


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return host in ("localhost", "[::1]") or host.startswith("127.")
