"""A model file becomes a detector that has run once: for the daemon and for offline runs alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from loguru import logger

from streamd.core.crew import Crew
from streamd.core.errors import ConfigError
from streamd.models.description import Description, describe
from streamd.models.detector import Detector
from streamd.models.engines import default_folder
from streamd.models.heads import FAMILIES
from streamd.models.presets import PRESETS
from streamd.models.selection import Rules, rules_for
from streamd.models.session import RuntimeOptions, open_session
from streamd.service.config import Batch, Input, Model, Runtime, Stream
from streamd.service.loading import Tables


def known_names() -> Tables:
    """The names that a configuration may give to `model.head` and `model.input`."""
    return Tables(heads=tuple(FAMILIES), inputs=tuple(PRESETS))


@contextmanager
def open_detector(description: Description, options: RuntimeOptions) -> Iterator[tuple[Detector, float]]:
    """A warmed detector and the milliseconds that one warm inference takes; closed at the end of the block.

    Blocks for as long as an engine is built. Raises ModelError, ProviderError.
    """
    for note in description.notes:
        (logger.info if description.input_known else logger.warning)("{}: {}", description.name, note)
    with open_session(description.path, description.graph, options, logger.warning) as session:
        for note in session.notes:
            logger.info("{}: {}", description.name, note)
        yield Detector(description, session, session.batch), session.warm_ms


@contextmanager
def build_detector(description: Description, options: RuntimeOptions) -> Iterator[tuple[Detector, float]]:
    """As `open_detector`, but made in the thread `build`: the main thread answers signals meanwhile."""
    made: list[tuple[Detector, float]] = []
    with ExitStack() as stack, Crew() as crew:
        crew.start("build", lambda: made.append(stack.enter_context(open_detector(description, options))))
        while crew.running("build"):
            crew.wait(1)
        if crew.failure is not None:
            raise crew.failure
        yield made[0]


def describe_configured(model: Model) -> Description:
    """The model that a configuration names, with its settings."""
    contract = model.input.contract() if isinstance(model.input, Input) else model.input
    labels = model.labels
    return describe(model.path, head=model.head, input=contract, size=model.size, labels=labels)


def runtime_options(runtime: Runtime, batch: Batch) -> RuntimeOptions:
    """The session's options from the configuration's sections."""
    return RuntimeOptions(
        providers=runtime.providers,
        fallback=runtime.fallback,
        precision=runtime.precision,
        device=runtime.device,
        cache_dir=runtime.cache_dir or default_folder(os.environ),
        batch_limit=batch.limit,
    )


def rules_of(stream: Stream, labels: tuple[str, ...]) -> Rules:
    """A stream's rules for a model with these labels. Raises ConfigError, led by the stream's key."""
    try:
        return rules_for(
            labels,
            confidence={**stream.confidence.classes, "default": stream.confidence.default},
            iou=stream.iou,
            classes=stream.classes,
            region=stream.region,
            min_size=stream.min_size,
        )
    except ConfigError as error:
        raise ConfigError(f"streams.{stream.id}.{error}") from error
