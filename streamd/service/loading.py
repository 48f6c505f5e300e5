"""A configuration file becomes a `Config`, or every fault in it is named with its line."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streamd.models.catalogue import is_path, unknown
from streamd.service import address
from streamd.service.config import Config, File, Publish, Settings, Stream, StreamEntry
from streamd.service.document import Document, Value, read_document
from streamd.service.explanation import explain, nearest
from streamd.service.faults import ConfigFaultsError, Fault, KeyPath
from streamd.service.references import Resolved, resolve
from streamd.service.values import HIDDEN
from streamd.sources import Kind
from streamd.sources.address import scheme_of


@dataclass(frozen=True, slots=True)
class Tables:
    """The names that the model's keys may hold, besides auto: the tables that the models are made from."""

    heads: Collection[str]
    inputs: Collection[str]
    models: Collection[str] = ()
    """Known models; with none of them, model.path is not looked at."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration, and the document that says where each key stands."""

    document: Document
    config: Config


# What means something for some kinds of source only. Set by a stream itself for another kind, it is a fault:
# whoever writes it expects an effect. In `defaults` it holds for those streams that it fits.
_FITS: dict[str, tuple[frozenset[Kind], str]] = {
    "pace": (frozenset({Kind.FILE}), "files; this source runs at its own pace"),
    "loop": (frozenset({Kind.FILE}), "files; this source is opened again by itself"),
    "transport": (frozenset({Kind.RTSP}), "rtsp:// and rtsps://"),
    "reader": (frozenset({Kind.RTSP}), "rtsp:// and rtsps://"),
    "username": (frozenset({Kind.RTSP, Kind.HTTP}), "rtsp, rtsps, http and https"),
    "password": (frozenset({Kind.RTSP, Kind.HTTP}), "rtsp, rtsps, http and https"),
}
_NEUTRAL = {name: field.default for name, field in StreamEntry.model_fields.items()}
_FROM_MODEL = ("confidence", "iou", "classes")


def load(path: Path, *, tables: Tables | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Reads, checks and resolves a configuration. Blocks on reading the file and the credentials.

    `tables`: names of heads and inputs to check against; `environ`: instead of the process's environment.
    Raises ConfigFaultsError (a ConfigError) with every fault; MissingFileError when there is no such file.
    """
    return read(path, tables=tables, environ=environ).config


def read(path: Path, *, tables: Tables | None = None, environ: Mapping[str, str] | None = None) -> Reading:
    """As `load`, with the places of the keys."""
    document = read_document(path)
    # ${env:...} and ${cred:...}; tests give their own.
    resolved = resolve(document, os.environ if environ is None else environ)
    # A section that is written and left empty is a section of defaults.
    plain = {key: {} if value is None else value for key, value in resolved.value.items()}
    faults = [*document.faults, *resolved.faults]
    folder = path.absolute().parent
    parsed: File | None = None
    try:
        parsed = File.model_validate(plain, context={"folder": folder})
    except ValidationError as error:
        unset = {fault.key for fault in resolved.faults}
        faults += [fault for fault in explain(error, document) if fault.key not in unset]
    faults += _stream_faults(plain, document, resolved, folder)
    if parsed is not None:
        faults += _publish_faults(parsed.publish, document)
    if tables is not None:
        faults += _unknown_names(plain, document, tables)
        if tables.models:
            faults += _unknown_model(plain, document, folder, tables)
    if parsed is None or faults:
        order = sorted(set(faults), key=lambda fault: (fault.place or (0, 0), fault.key, fault.problem))
        raise ConfigFaultsError(tuple(order))
    return Reading(document, _resolve(parsed, resolved, folder))


def _entries(plain: Mapping[str, Value]) -> Iterator[tuple[str, dict[str, Value]]]:
    """The streams that have the shape of one; the types tell of the others."""
    streams = plain.get("streams")
    if isinstance(streams, dict):
        for name, entry in streams.items():
            if isinstance(entry, dict):
                yield name, entry


def _stream_faults(
    plain: Mapping[str, Value], document: Document, resolved: Resolved, folder: Path
) -> Iterator[Fault]:
    for name, entry in _entries(plain):
        at: KeyPath = ("streams", name)
        if not address.is_stream_id(name):
            yield document.fault(at, "an id is made of a-z, 0-9, _ and -, and starts with a letter or digit")
        url = entry.get("url")
        if not isinstance(url, str) or not url:
            continue
        secret = (*at, "url") in resolved.given
        if not secret and "${" in url:
            continue  # told of already
        try:
            address.checked_url(url, secret=secret)
            kind = address.kind_of(url)
            if kind is Kind.FILE:
                address.local_path(url, folder)
        except ValueError as error:
            yield document.fault((*at, "url"), str(error))
            continue
        yield from (document.fault((*at, key), problem) for key, problem in _misfits(entry, url, kind))


def _misfits(entry: Mapping[str, Value], url: str, kind: Kind) -> Iterator[tuple[str, str]]:
    for key, (kinds, sources) in _FITS.items():
        if key in entry and entry[key] != _NEUTRAL[key] and kind not in kinds:
            yield key, f"is only for {sources}"
    tls = entry.get("tls")
    asked = isinstance(tls, dict) and (tls.get("verify") is False or tls.get("ca") is not None)
    if asked and scheme_of(url) not in address.ENCRYPTED:
        yield "tls", "is only for rtsps:// and https://"
    if entry.get("password") is not None and entry.get("username") is None:
        yield "password", "needs `username` as well"
    if entry.get("username") is not None and entry.get("password") is None:
        yield "username", 'needs `password` as well; an empty one is ""'
    if entry.get("intent") == "every" and entry.get("max_age_ms") is not None:
        yield "max_age_ms", "is only for intent: live; every loses no frame"


def _publish_faults(publish: Publish, document: Document) -> Iterator[Fault]:
    endpoints = [endpoint for endpoint in (publish.bind, publish.frames) if endpoint is not None]
    if publish.group and all(endpoint.startswith("tcp:") for endpoint in endpoints):
        yield document.fault(("publish", "group"), "is only for ipc:// endpoints; leave it null")
    # Port 0 is another one each time.
    if publish.frames == publish.bind and not publish.bind.endswith(":0"):
        yield document.fault(("publish", "frames"), "is the endpoint of publish.bind; choose another one")


def _unknown_model(
    plain: Mapping[str, Value], document: Document, folder: Path, tables: Tables
) -> Iterator[Fault]:
    """A name that is none. What is written as a path may still come to be."""
    model = plain.get("model")
    text = model.get("path") if isinstance(model, dict) else None
    if not isinstance(text, str) or not text or "${" in text or is_path(text) or text in tables.models:
        return
    if not os.path.exists(folder / text):
        yield document.fault(("model", "path"), unknown(text))


def _unknown_names(plain: Mapping[str, Value], document: Document, tables: Tables) -> Iterator[Fault]:
    model = plain.get("model")
    if not isinstance(model, dict):
        return
    for key, known in (("head", tables.heads), ("input", tables.inputs)):
        name = model.get(key, "auto")
        if isinstance(name, str) and name != "auto" and name not in known:
            choice = ", ".join(("auto", *sorted(known)))
            yield document.fault(("model", key), f"no such name{nearest(name, known)}; one of {choice}")


def _resolve(parsed: File, resolved: Resolved, folder: Path) -> Config:
    streams = []
    secrets = set(resolved.credentials)
    for name, entry in parsed.streams.items():
        by_reference = ("streams", name, "url") in resolved.given
        streams.append(_stream(name, entry, parsed, folder, by_reference))
        if by_reference:
            secrets |= address.secrets_of(entry.url)
        if entry.password is not None:
            secrets.add(entry.password.get_secret_value())
    config = Config(
        model=parsed.model,
        runtime=parsed.runtime,
        batch=parsed.batch,
        streams=tuple(streams),
        publish=parsed.publish,
        metrics=parsed.metrics,
        log=parsed.log,
    )
    config._secrets = frozenset(secrets - {""})
    return config


def _stream(name: str, entry: StreamEntry, parsed: File, folder: Path, by_reference: bool) -> Stream:
    kind = address.kind_of(entry.url)
    url = str(address.local_path(entry.url, folder)) if kind is Kind.FILE else entry.url
    values = {key: getattr(parsed.defaults, key) for key in Settings.model_fields}
    values |= {key: getattr(entry, key) for key in entry.model_fields_set}
    if "tls" in entry.model_fields_set:
        values["tls"] = parsed.defaults.tls.model_copy(
            update={key: getattr(entry.tls, key) for key in entry.tls.model_fields_set}
        )
    values |= {key: _inherited(key, entry, parsed) for key in _FROM_MODEL}
    if values["intent"] == "auto" and kind.live is not None:
        values["intent"] = "live" if kind.live else "every"
    if values["intent"] == "every":
        values["max_age_ms"] = None
    identity = {"id": name, "url": url, "kind": kind, "shown_url": HIDDEN if by_reference else url}
    login = {"username": entry.username, "password": entry.password}
    return Stream.model_validate({**values, **identity, **login})


def _inherited(key: str, entry: StreamEntry, parsed: File) -> Any:
    """The stream's value, else the default's, else the model's. `classes: null` is a value: all classes."""
    for section in (entry, parsed.defaults):
        value = getattr(section, key)
        if value is not None or (key == "classes" and key in section.model_fields_set):
            return value
    return getattr(parsed.model, key)
