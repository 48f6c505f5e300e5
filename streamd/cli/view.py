"""`streamd view`: save the pictures that a daemon sees, with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli import options
from streamd.cli.stopping import Stop
from streamd.core.errors import UsageError
from streamd.core.text import printable

if TYPE_CHECKING:
    from streamd.bus.wire import ResultMessage

_ONCE_S = 2.0


def view(
    endpoint: Annotated[str, typer.Argument(help="The daemon's publish.frames.")] = "tcp://127.0.0.1:5561",
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FOLDER|FILE.jpg|FILE.png", help="A folder with a file a stream, or one file."
        ),
    ] = Path("view"),
    stream: Annotated[str | None, typer.Option("--stream", metavar="ID", help="Only this stream.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="One picture of each stream that sends within 2 s, then end.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", min=1, metavar="N", help="End after N pictures.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Each picture in a file of its own, STREAM-TIME-SEQ.")
    ] = False,
    png: Annotated[bool, typer.Option("--png", help="PNG files in the folder, not JPEG.")] = False,
    timeout: options.Timeout = None,
    keys: options.ClientKeys = None,
    server_key: options.ServerKey = None,
) -> None:
    """Save what a daemon sees, boxes drawn in: the newest picture of each stream in FOLDER/STREAM.jpg.

    Each new picture takes the place of the one before it, whole at any moment, until Ctrl-C. The daemon sends
    pictures when publish.frames is set. With --once it waits no longer than 10 s for the first one, unless --timeout
    says otherwise.

    Example: streamd view --once --stream gate --out gate.jpg
    """
    if once and count is not None:
        raise UsageError("--once and --count: choose one of the two")
    patience_s = options.ONCE_PATIENCE_S if once and timeout is None else timeout
    with Stop() as stop:
        import time

        from streamd.bus.viewer import pictures
        from streamd.cli import complain
        from streamd.cli.listening import Listening
        from streamd.service.picture_files import PictureFiles

        files = PictureFiles(out, ".png" if png else ".jpg", keep=keep)
        if files.single and stream is None:
            raise UsageError(f"--out {out}: one file is for one stream; name it with --stream, or a folder")
        if files.single and png and out.suffix.lower() != ".png":
            raise UsageError(f"--png: {out} says otherwise; leave one of the two out")
        with pictures(endpoint, stream=stream, keys=keys, server_key=server_key) as feed:
            ask = "is publish.frames set, and the same? Pictures come from there, not from publish.bind"
            listening = Listening(endpoint, stop.event, patience_s, "picture", ask)
            stop.begin()
            written, seen = 0, set[str]()
            first_s: float | None = None
            for picture in listening.each(feed.within, lambda: feed.hint):
                if once and first_s is not None and time.monotonic() - first_s > _ONCE_S:
                    break
                if picture is None or (once and picture[0].stream in seen):
                    continue
                path = files.write(*picture)
                first_s = first_s or time.monotonic()
                print(_line(path, picture[0]), flush=True)
                seen.add(picture[0].stream)
                written += 1
                if written == count or (once and stream):
                    break
    if not written:
        complain(f"{endpoint}: no picture came")


def _line(path: Path, result: ResultMessage) -> str:
    counts: dict[str, int] = {}
    for one in result.objects:
        counts[one.class_name] = counts.get(one.class_name, 0) + 1
    objects = ", ".join(f"{number} {name}" for name, number in counts.items()) or "-"
    return printable(f"{path}  #{result.seq}  {result.width}x{result.height}  {objects}")
