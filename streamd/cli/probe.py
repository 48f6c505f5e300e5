"""`streamd probe`: what a camera or file really sends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamd.cli import options
from streamd.core.errors import UsageError


def probe(
    url: Annotated[str | None, typer.Argument(metavar="URL")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Take a stream of this configuration."),
    ] = None,
    stream: Annotated[str | None, typer.Option("--stream", metavar="ID", help="Which, with -c.")] = None,
    username: Annotated[
        str | None, typer.Option(help="The camera's user; the password is asked for.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the password, instead of asking.")
    ] = None,
    transport: Annotated[str, typer.Option(help="RTSP: auto, tcp or udp.")] = "auto",
    timeout: Annotated[float, typer.Option(min=0.1, max=300, metavar="S", help="Longest silence.")] = 5.0,
) -> None:
    """Open a source and measure it: codec, size, real frame rate, keyframes, time to the first picture.

    Ends with 1 when no picture came.

    Example: streamd probe rtsp://10.0.0.5/stream1 --username viewer
    """
    import threading

    from streamd.sources import SourceRequest, Transport
    from streamd.sources import probing

    if (url is None) == (config is None):
        raise UsageError("name a URL, or a stream of a configuration with -c FILE --stream ID")
    if transport not in tuple(Transport):
        raise UsageError(f"--transport {transport}: choose one of {', '.join(Transport)}")
    if config is not None:
        request = _configured(config, stream)
    else:
        assert url is not None
        _refuse_credentials(url)
        password = options.read_password(password_file, username)
        request = SourceRequest(
            url=url, username=username, password=password, transport=Transport(transport), timeout_s=timeout
        )
    print(probing.report(probing.probe(request, threading.Event())))
