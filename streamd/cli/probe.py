"""`streamd probe`: what a camera or file really sends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli import options
from streamd.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamd.sources import SourceRequest
    from streamd.sources.probing import Probe


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

    from streamd.sources import SourceRequest, Transport, probing

    if (url is None) == (config is None):
        raise UsageError("name a URL, or a stream of a configuration with -c FILE --stream ID")
    if transport not in tuple(Transport):
        raise UsageError(f"--transport {transport}: choose one of {', '.join(Transport)}")
    if config is not None:
        request = _configured(config, stream)
    else:
        assert url is not None
        options.refuse_credentials(url)
        password = options.read_password(password_file, username)
        request = SourceRequest(
            url=url, username=username, password=password, transport=Transport(transport), timeout_s=timeout
        )
    for name, value in _rows(probing.probe(request, threading.Event())):
        print(f"{name:<15} {value}")


def _rows(found: Probe) -> Iterator[tuple[str, str]]:
    """What was found, for people."""
    profile = f" ({found.profile})" if found.profile else ""
    yield "codec", f"{found.codec}{profile}"
    turned = f", turned by {found.rotation} degrees" if found.rotation else ""
    pixels = f", pixels {found.sar.numerator}:{found.sar.denominator}" if found.sar else ""
    yield "size", f"{found.width}x{found.height}{turned}{pixels}"
    announced = f" (announced {found.announced_rate:.4g})" if found.announced_rate else ""
    measured = f"{found.rate:.4g} a second" if found.rate else "unknown"
    yield "frame rate", f"{measured}{announced}, over {found.pictures} pictures"
    if found.keyframe_interval_s is None:
        yield "keyframes", "no second one came"
    else:
        yield "keyframes", f"every {found.keyframe_interval_frames} frames, {found.keyframe_interval_s:.2f} s"
    yield "first picture", f"after {found.first_picture_s:.2f} s"
    yield "authentication", found.authentication.value
    yield "kind", "live" if found.live else "file"
    if found.duration_s is not None:
        yield "duration", f"{found.duration_s:.2f} s"
    for note in found.notes:
        yield "note", note


def _configured(config: Path, stream: str | None) -> SourceRequest:
    """The source of a configured stream."""
    from streamd.service.configured import request_of
    from streamd.service.loading import load

    streams = {found.id: found for found in load(config).streams}
    if stream is None and len(streams) == 1:
        (stream,) = streams
    if stream not in streams:
        raise UsageError(f"{config}: --stream must be one of {', '.join(streams)}")
    return request_of(streams[stream])
