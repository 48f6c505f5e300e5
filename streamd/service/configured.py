"""What a configuration's sections ask of the models: the types of one become those of the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from streamd.core.caches import cache_folder
from streamd.core.errors import ConfigError
from streamd.models.catalogue import KnownModel, catalogue
from streamd.models.description import Description, describe
from streamd.models.device_letterbox import DeviceLetterbox
from streamd.models.heads import FAMILIES
from streamd.models.labels import coco
from streamd.models.preprocess import Letterbox
from streamd.models.presets import PRESETS
from streamd.models.selection import Rules, rules_for
from streamd.models.session import Provider, RuntimeOptions
from streamd.models.store import store_of
from streamd.pipeline.slots import ModelInput
from streamd.service.config import Config, Input, Model, Stream
from streamd.service.loading import Tables
from streamd.sources import Hardware, Reader, SourceRequest, Tls, Transport

_OFFLINE_BATCH = 8

Pull: TypeAlias = Callable[[KnownModel], Path]
"""Makes a known model a file on this machine; may block for as long as it is fetched."""


def known_names() -> Tables:
    """The names that a configuration may give to `model.head`, `model.input` and `model.path`."""
    return Tables(heads=tuple(FAMILIES), inputs=tuple(PRESETS), models=tuple(catalogue()))


def describe_configured(model: Model, pull: Pull) -> Description:
    """The model that a configuration names, with its settings. Blocks and raises as `pull` does."""
    path = pull(model.path) if isinstance(model.path, KnownModel) else model.path
    contract = model.input.contract() if isinstance(model.input, Input) else model.input
    labels = model.labels
    return describe(path, head=model.head, input=contract, size=model.size, labels=labels)


def labels_configured(model: Model) -> tuple[str, ...] | None:
    """The class names of a configuration's model, without fetching it; None where only a file tells that is not here.

    Raises as `describe`.
    """
    if isinstance(model.path, KnownModel):
        store = store_of(os.environ)  # they alone say where caches belong
        if store.flaw(model.path) is not None:
            known = model.path.labels
            return (coco() if isinstance(known, str) else known) if model.labels == "auto" else None
    return describe_configured(model, lambda known: store.path(known)).labels


def runtime_options(config: Config) -> RuntimeOptions:
    """The session's options for a configuration.

    On the CPU, cameras get a run each while there are cores; the pictures of one camera come one after the other, so
    one alone gets all cores for each picture. A file is ahead of the model and keeps every core at work.
    """
    runtime = config.runtime
    enabled = [stream for stream in config.streams if stream.enabled]
    files = any(stream.intent == "every" for stream in enabled)
    return RuntimeOptions(
        providers=runtime.providers,
        fallback=runtime.fallback,
        precision=runtime.precision,
        cuda_graph=runtime.cuda_graph,
        device=runtime.device,
        cache_dir=runtime.cache_dir or cache_folder(os.environ, "engines"),  # as systemd says, or the user
        batch_limit=config.batch.limit,
        cpu_runs=None if files else max(1, len(enabled)),
    )


def offline_options(providers: tuple[Provider, ...], fallback: bool) -> RuntimeOptions:
    """The session's options of a run without a configuration."""
    return RuntimeOptions(
        providers=providers,
        fallback=fallback,
        precision="fp16",
        device=0,
        cache_dir=cache_folder(os.environ, "engines"),  # they alone say where caches belong
        batch_limit=_OFFLINE_BATCH,
        cpu_runs=None,
    )


def letterbox(target: ModelInput) -> Letterbox:
    """What writes pictures for this model. One per stream and thread."""
    return Letterbox(target.contract, target.shape)


def device_letterbox(target: ModelInput) -> DeviceLetterbox | None:
    """What writes pictures that a GPU has decoded; None where the model takes none from a GPU."""
    if target.device is None:
        return None
    return DeviceLetterbox(target.contract, target.shape, target.device)


def rules_of(stream: Stream, labels: tuple[str, ...]) -> Rules:
    """A stream's rules for a model with these labels. Raises ConfigError, led by the stream's key."""
    floors = {**stream.confidence.classes, "default": stream.confidence.default}
    try:
        return _rules_for(
            labels,
            tuple(floors.items()),
            stream.iou,
            None if stream.classes is None else tuple(stream.classes),
            None if stream.region is None else tuple(map(tuple, stream.region)),
            None if stream.min_size is None else tuple(stream.min_size),
        )
    except ConfigError as error:
        raise ConfigError(f"streams.{stream.id}.{error}") from error


@lru_cache
def _rules_for(
    labels: tuple[str, ...],
    floors: tuple[tuple[str, float], ...],
    iou: float,
    classes: tuple[str, ...] | None,
    region: tuple[tuple[float, ...], ...] | None,
    min_size: tuple[float, ...] | None,
) -> Rules:
    """The same object for streams with the same rules: their pictures are read together (`Sight`)."""
    return rules_for(
        labels, confidence=dict(floors), iou=iou, classes=classes, region=region, min_size=min_size
    )


def request_of(stream: Stream, gpu: int | None = None) -> SourceRequest:
    """What a configured stream asks of its source. gpu: where the model takes pictures from, beside host memory."""
    return SourceRequest(
        url=stream.url,
        username=stream.username,
        password=stream.password.get_secret_value() if stream.password else None,
        transport=Transport(stream.transport),
        reader=Reader(stream.reader),
        timeout_s=stream.timeout_s,
        tls=Tls(stream.tls.verify, str(stream.tls.ca) if stream.tls.ca else None),
        video="best" if isinstance(stream.video, str) else stream.video,
        hardware=Hardware(stream.hardware),
        gpu=gpu,
        every=stream.intent == "every",
    )
