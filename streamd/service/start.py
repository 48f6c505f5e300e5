"""A description becomes a detector that has run once: for the daemon and for offline runs alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from loguru import logger

from streamd.core.crew import Crew
from streamd.models.description import Description
from streamd.models.detector import Detector
from streamd.models.session import RuntimeOptions, open_session


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
