"""A description becomes a detector that has run once: for the daemon and for offline runs alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from loguru import logger

from streamd.core.crew import Crew
from streamd.core.errors import ModelError, ProviderError
from streamd.core.timing import now_ns
from streamd.models.chain import awaited, meanwhile, open_session
from streamd.models.description import Description
from streamd.models.detector import Detector
from streamd.models.engines import Tell
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions
from streamd.service.fleet import RunningModel


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
    with open_session(description.path, description.graph, options, tell, description.contract) as session:
        for note in session.notes:
            logger.info("{}: {}", description.name, note)
        detector = make(description, session, session.batch)
        try:
            detector.try_out()
        except ModelError as error:
            raise ModelError(f"{description.path}: {error}") from error
        yield detector, session.warm_ms


def tell_of(description: Description) -> None:
    """Log what was found out about a model, and what was guessed."""
    for note in description.notes:
        (logger.info if description.input_known else logger.warning)("{}: {}", description.name, note)


@contextmanager
def open_for_service(
    description: Description,
    options: RuntimeOptions,
    building: Callable[[int, str], None] = lambda since_ns, text: None,
) -> Iterator[RunningModel]:
    """A model that serves now; if an engine has to be built first and another provider may run, on that one.

    Made in the thread `build`: the main thread answers signals meanwhile. `building` is called each second in
    this thread: since when (monotonic ns), and what is being done. Raises as `open_detector`.
    """
    made: list[RunningModel] = []
    said = [f"starting {description.name}"]

    def tell(text: str) -> None:
        said.append(text)
        logger.warning("{}", text)

    started_ns = now_ns()
    with ExitStack() as stack, Crew() as crew:
        crew.start("build", lambda: made.append(_open_now(description, options, tell, stack)))
        while crew.running("build"):
            building(started_ns, said[-1])
            crew.wait(1)
        if crew.failure is not None:
            raise crew.failure
        yield made[0]


def _open_now(
    description: Description, options: RuntimeOptions, tell: Tell, stack: ExitStack
) -> RunningModel:
    tell_of(description)
    better = awaited(description.path, description.graph, options, description.contract)
    rest = meanwhile(options)
    if better is not None and rest is not None:
        try:
            detector, warm_ms = stack.enter_context(open_detector(description, rest, tell))
            return RunningModel(detector, warm_ms, awaited=better)
        except ProviderError as error:
            tell(f"nothing can serve before the engine is built: {error}")
    return RunningModel(*stack.enter_context(open_detector(description, options, tell)))
