"""`streamd record`: the bus into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.errors import OutputError, StreamdError, UsageError

if TYPE_CHECKING:
    from streamd.service.recorder import Recorder


def record(
    places: Annotated[
        list[str],
        typer.Argument(metavar="[ENDPOINT] FILE", help=f"From where (else {options.BUS}), and where to."),
    ],
    stream: Annotated[str | None, typer.Option("--stream", metavar="ID", help="Only this stream.")] = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", min=0, metavar="S", help="End S seconds after the first message."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    timeout: options.Timeout = None,
    keys: options.ClientKeys = None,
    server_key: options.ServerKey = None,
) -> None:
    """Record everything that a daemon publishes, for `streamd replay`; Ctrl-C ends it. FILE - is stdout.

    Waits for a daemon that is not there yet, and goes on when it comes back. Pictures are recorded from the
    daemon's publish.frames in the same way.

    Example: streamd record session.jsonl --duration 60
    """
    endpoint, path = _places(places)
    with Stop() as stop:
        from streamd.bus.client import messages
        from streamd.cli import complain
        from streamd.cli.listening import Listening
        from streamd.service.line_file import LineFile
        from streamd.service.recorder import Recorder

        ask = "is a daemon running, and does its publish.bind say the same?"
        with (
            messages(endpoint, stream=stream, keys=keys, server_key=server_key) as feed,
            LineFile(path, force=force) as file,
        ):
            recorder = Recorder(file, endpoint)
            listening = Listening(endpoint, stop.event, timeout, "message", ask)
            failure: StreamdError | None = None
            stop.begin()
            try:
                for parts in listening.each(feed.parts_within, lambda: feed.hint):
                    if parts is not None:
                        recorder.take(parts)
                    if duration is not None and recorder.messages and recorder.seconds >= duration:
                        break
                recorder.end()
            except StreamdError as error:
                failure = error
                # The end is written all the same, unless it is the file that failed.
                if not isinstance(error, OutputError):
                    recorder.end()
        if recorder.messages:
            _report(file.name, recorder)
        if failure is not None:
            raise failure
    if not recorder.messages:
        complain(f"{endpoint}: nothing came, and {file.name} was not written")


def _places(places: list[str]) -> tuple[str, str]:
    """Endpoint and file."""
    if len(places) > 2:
        raise UsageError(f"{places[2]}: one endpoint and one file are all that can be named")
    if "://" in places[-1]:
        raise UsageError(f"record {places[-1]}: into which file? name one behind the endpoint; - is stdout")
    return (places[0], places[1]) if len(places) == 2 else (options.BUS, places[0])


def _report(name: str, recorder: Recorder) -> None:
    """On stderr: stdout may be the recording."""
    from streamd.cli import complain

    lives = f", the daemon was started again {recorder.runs - 1} times" if recorder.runs > 1 else ""
    complain(
        f"{name}: {recorder.messages} messages in {recorder.seconds:.1f} s, {recorder.lost} lost on the bus{lives}"
    )
    for stream, count in sorted(recorder.streams.items()):
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(count.kinds.items()))
        complain(f"  {stream:<12} {kinds}{f', {count.lost} lost' if count.lost else ''}")
