"""`streamd top`: a running daemon at a glance, live."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.errors import StreamdError, UsageError

_ASK = "is a daemon running, and does its publish.bind say the same?"
_METRICS_PORT = 9560
_WIDE = 500


def top(
    endpoint: Annotated[str, typer.Argument()] = options.BUS,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The daemon's metrics.listen; for port 5560 port 9560 of the same host, else none.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One table, then end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --once: one JSON object.")] = False,
    timeout: options.Timeout = None,
    keys: options.ClientKeys = None,
    server_key: options.ServerKey = None,
) -> None:
    """Show a running daemon live: its streams, their rates, ages, stage times, drops and what was lost on the bus.

    Keys: s sorts by another column, q quits. Waits for a daemon that is not there, and shows that it has gone; with
    --once no longer than 10 s, unless --timeout says otherwise.

    Example: streamd top tcp://10.0.0.5:5560
    """
    if json and not once:
        raise UsageError("--json: name --once as well; `streamd tail --json` goes on for ever")
    if not once and not _on_a_terminal():
        raise UsageError("top needs a terminal (ssh -t gives one); --once prints one table anywhere")
    at = metrics if metrics is not None else _beside(endpoint)
    if once:
        _once(endpoint, at, options.ONCE_PATIENCE_S if timeout is None else timeout, keys, server_key, json)
    else:
        _live(endpoint, at, timeout, keys, server_key)


def _on_a_terminal() -> bool:
    # Such a terminal does not know how to go back to the first line.
    dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
    return all(file is not None and file.isatty() for file in (sys.stdin, sys.stdout)) and not dumb


def _beside(endpoint: str) -> str | None:
    """Where the metrics of a daemon with this endpoint are, if both are as they come; None: who knows."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return f"{host}:{_METRICS_PORT}" if endpoint.startswith("tcp://") and port == "5560" else None


def _once(
    endpoint: str,
    at: str | None,
    timeout: float,
    keys: Path | None,
    server_key: Path | None,
    json: bool,
) -> None:
    """Wait for a status that is not an old one sent again, so that rates and stage times are of now."""
    with Stop() as stop:
        from streamd.bus.client import messages
        from streamd.bus.versions import advice
        from streamd.cli.console import console
        from streamd.cli.listening import Listening
        from streamd.cli.top_table import screen
        from streamd.service.overview import Watch, as_json
        from streamd.service.scrape import Source, address_of

        source = Source(None if at is None else address_of(at))
        with messages(endpoint, keys=keys, server_key=server_key) as feed:
            watch = Watch(endpoint)
            listening = Listening(endpoint, stop.event, timeout, "status", _ASK)
            stop.begin()
            for message in listening.each(feed.within, lambda: feed.hint):
                if message is not None:
                    watch.take(*message)
                    if watch.newer:
                        raise StreamdError(f"{endpoint}: {advice(watch.newer)}")
                if watch.fresh:
                    break
    if not watch.fresh:
        return
    source.ask()
    found = watch.overview(source.latest())
    if json:
        print(as_json(found))
        return
    shown = console()
    if shown.is_terminal:
        shown.print(screen(found, "trouble", shown.width))
        return
    # A pipe has no width: nothing is left out there.
    shown = console(width=_WIDE)
    with shown.capture() as text:
        shown.print(screen(found, "trouble", _WIDE))
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def _live(
    endpoint: str, at: str | None, timeout: float | None, keys: Path | None, server_key: Path | None
) -> None:
    import signal

    from streamd.cli.terminal import Keys

    pressed = Keys()
    with Stop(signal.SIGHUP, restore=pressed.abandon) as stop:
        from streamd.bus.client import messages
        from streamd.cli.top_screen import TopScreen
        from streamd.core.crew import Crew
        from streamd.service.overview import Watch
        from streamd.service.scrape import Source, address_of

        source = Source(None if at is None else address_of(at))
        with Crew() as crew, messages(endpoint, keys=keys, server_key=server_key) as feed:
            crew.start("scrape", lambda: source.run(crew.stop))
            screen = TopScreen(feed, Watch(endpoint), source, pressed)
            stop.begin()
            try:
                screen.run(stop.event, timeout, _ASK)
            except OSError as error:
                raise StreamdError(f"the terminal has gone: {error.strerror}") from error
        if crew.failure is not None:
            raise crew.failure
