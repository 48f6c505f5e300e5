"""What a configuration comes to on this machine: the files that it names, and what would run."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

from streamd.bus.keys import Keyring, KeysError, read_keyring
from streamd.models.catalogue import KnownModel
from streamd.models.store import store_of
from streamd.service.config import Config, Model, Stream
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


def key_faults(reading: Reading) -> tuple[Fault, ...]:
    """A fault for everything that is wrong in the folder of keys, if one is named."""
    try:
        keyring_of(reading.config)
    except KeysError as error:
        at = ("publish", "curve")
        return tuple(
            reading.document.fault(at, problem.text, missing=problem.missing) for problem in error.problems
        )
    return ()


def keyring_of(config: Config) -> Keyring | None:
    """The keys that the results are encrypted with; None without encryption. Raises KeysError."""
    return None if config.publish.curve is None else read_keyring(config.publish.curve)


def _files(config: Config) -> Iterator[tuple[KeyPath, Path, bool]]:
    """Every file by its key, and whether its name may be shown."""
    if isinstance(config.model.path, Path):
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
        *_known_model(config.model),
        f"batches of up to {config.batch.limit}",
        f"{len(running)} of {len(config.streams)} streams enabled",
        *map(_stream_line, running),
        _results_line(config),
        *([f"pictures on {config.publish.frames}"] if config.publish.frames else []),
        f"metrics on {config.metrics.listen}" if config.metrics.listen else "metrics off",
    ]
    return lines + [f"WARNING: {line}" for line in exposures(config)]


def exposures(config: Config) -> list[str]:
    """What strangers on the network could read, a line each."""
    lines = []
    publish, listen = config.publish, config.metrics.listen
    for key, what, endpoint in (("bind", "results", publish.bind), ("frames", "pictures", publish.frames)):
        if endpoint is not None and is_public(endpoint) and publish.curve is None:
            lines.append(
                f"publish.{key}: {endpoint}: anyone who reaches this address can read all {what}: they are not "
                "encrypted; set publish.curve, or bind to 127.0.0.1 or ipc://"
            )
    if listen is not None and not _is_loopback(listen):
        lines.append(
            f"metrics.listen: {listen}: anyone who reaches this address can read metrics and the state of all "
            "streams: there is no password; listen on 127.0.0.1, or let a firewall choose who may ask"
        )
    return lines


def _results_line(config: Config) -> str:
    keyring = keyring_of(config)
    if keyring is None:
        return f"results on {config.publish.bind}"
    names = ", ".join(sorted(keyring.clients.values())) or "nobody"
    return f"results on {config.publish.bind}, encrypted, for {names}"


def _known_model(model: Model) -> Iterator[str]:
    """What a start does about a model that is named and not a file."""
    if not isinstance(model.path, KnownModel):
        return
    known, store = model.path, store_of(os.environ)  # they alone say where caches belong
    flaw = store.flaw(known)
    if flaw is None:
        yield f"model {known.name} is here: {store.path(known)}"
    else:
        yield (
            f"model {known.name} is not here{flaw and f' ({store.path(known)} {flaw})'}: `run` fetches {known.bytes} "
            f"bytes from {store.address(known)} to {store.path(known)}, and ends with 1 where it cannot"
        )


def _stream_line(stream: Stream) -> str:
    age = f", no older than {stream.max_age_ms} ms" if stream.max_age_ms else ""
    return f"stream {stream.id}: {_INTENTS[stream.intent]}{age}, from {stream.shown_url}"


def is_public(endpoint: str) -> bool:
    """Whether a ZeroMQ endpoint that is bound to can be reached from other machines."""
    return endpoint.startswith("tcp://") and not _is_loopback(endpoint)


def _is_loopback(address: str) -> bool:
    """Of tcp://HOST:PORT or HOST:PORT. A name other than localhost may lead anywhere, `127.0.0.1.example` too."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
