"""`streamd replay`: a recording on the bus again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.errors import MissingFileError, StreamdError, UsageError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from streamd.bus.admission import Admission

_SLOWEST, _FASTEST = 0.001, 1000.0


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recording; - is stdin.")],
    bind: Annotated[
        str, typer.Option("--bind", metavar="ENDPOINT", help="Where to publish, as a daemon does.")
    ] = options.BUS,
    speed: Annotated[
        float | None, typer.Option("--speed", metavar="X", help="Times as fast as it was recorded.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the slowest subscriber takes it; nothing is lost.")
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Again and again.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Begin when somebody subscribes, or at once.")
    ] = True,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--curve", metavar="FOLDER", help="Encrypt, for the clients on this list, as publish.curve does."
        ),
    ] = None,
) -> None:
    """Publish a recording with its timing, so that subscribers can be tried without cameras and model.

    Topics and headers are the recorded ones byte for byte, so their clocks say when they were recorded.

    Example: streamd replay session.jsonl --loop
    """
    if speed is not None and fast:
        raise UsageError("--speed and --fast: choose one of the two")
    if speed is not None and not _SLOWEST <= speed <= _FASTEST:
        raise UsageError(
            f"--speed {speed:g}: must be {_SLOWEST:g} to {_FASTEST:g}; --fast plays without any timing"
        )
    with Stop() as stop:
        import contextlib

        from streamd.bus.endpoint import Endpoint
        from streamd.bus.recording import Recording
        from streamd.bus.replay import Pace, Replay
        from streamd.cli import complain
        from streamd.service.address import bind_endpoint
        from streamd.service.inspection import is_public

        try:
            address = bind_endpoint(bind, Path.cwd())
        except ValueError as error:
            raise UsageError(f"--bind {bind}: {error}") from error
        with contextlib.ExitStack() as stack:
            name = "stdin" if file == "-" else file
            opened = _opened(file, stack)
            if loop and not opened.seekable():
                raise UsageError(f"--loop: {name} cannot be played again; name a file")
            recording = Recording(opened, name)
            pace = Pace(None if fast else speed or 1.0, loop, wait)
            admission = None if curve is None else _admission(curve)
            if admission is None and is_public(address):
                complain(
                    f"--bind {address}: anyone who reaches this address can read the recording: it is not encrypted;"
                    " use --curve, or bind to 127.0.0.1 or ipc://"
                )
            playing = Replay(recording, Endpoint("--bind", address), pace, stop.event, admission)
            stop.begin()
            then = "; begins when somebody subscribes" if wait else ""
            playing.run(lambda endpoint: complain(f"{name}: plays on {endpoint}{then}"))
        complain(f"{name}: {playing.sent} messages sent")
    if playing.fault is not None:
        raise StreamdError(playing.fault)


def _admission(folder: Path) -> Admission:
    """Raises KeysError."""
    from streamd.bus.admission import Admission
    from streamd.bus.keys import read_keyring
    from streamd.cli import complain

    keyring = read_keyring(folder)
    for note in keyring.notes:
        complain(note)
    return Admission(keyring, lambda who: complain(f"refused: {who}"))


def _opened(file: str, stack: ExitStack) -> BinaryIO:
    import sys

    if file == "-":
        if sys.stdin is None:
            raise UsageError("stdin is closed; name a file instead of -")
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(file, "rb"))
    except IsADirectoryError as error:
        raise UsageError(f"{file} is a folder; name a recording") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise MissingFileError(f"{file} cannot be read: {why}") from error
