"""A description becomes a detector that has run once: for the daemon and for offline runs alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from loguru import logger

from streamd.core.crew import Crew
from streamd.core.errors import ModelError
from streamd.core.timing import now_ns
from streamd.models.description import Description
from streamd.models.detector import Detector
from streamd.models.engines import Tell
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions, open_session


@contextmanager
def open_detector(
    description: Description,
    options: RuntimeOptions,
    tell: Tell = logger.warning,
    make: Callable[[Description, Session, int], Detector] = Detector,
) -> Iterator[tuple[Detector, float]]:
    """A warmed detector and the milliseconds that one warm inference takes; closed at the end of the block.

    Blocks for as long as an engine is built; `tell` is called, in this thread, with what takes long.
    Raises ModelError, ProviderError.
    """
    for note in description.notes:
        (logger.info if description.input_known else logger.warning)("{}: {}", description.name, note)
    with open_session(description.path, description.graph, options, tell, description.contract) as session:
        for note in session.notes:
            logger.info("{}: {}", description.name, note)
        detector = make(description, session, session.batch)
        try:
            detector.try_out()
        except ModelError as error:
            raise ModelError(f"{description.path}: {error}") from error
        yield detector, session.warm_ms


@contextmanager
def build_detector(
    description: Description,
    options: RuntimeOptions,
    building: Callable[[int, str], None] = lambda since_ns, text: None,
) -> Iterator[tuple[Detector, float]]:
    """As `open_detector`, but made in the thread `build`: the main thread answers signals meanwhile.

    `building` is called each second in this thread: since when (monotonic ns), and what is being done.
    """
    made: list[tuple[Detector, float]] = []
    said = [f"starting {description.name}"]

    def tell(text: str) -> None:
        said.append(text)
        logger.warning("{}", text)

    started_ns = now_ns()
    with ExitStack() as stack, Crew() as crew:
        opened = open_detector(description, options, tell)
        crew.start("build", lambda: made.append(stack.enter_context(opened)))
        while crew.running("build"):
            building(started_ns, said[-1])
            crew.wait(1)
        if crew.failure is not None:
            raise crew.failure
        yield made[0]
