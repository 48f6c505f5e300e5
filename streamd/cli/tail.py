"""`streamd tail`: print what a daemon publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamd.core.errors import StreamdError


def tail(
    endpoint: Annotated[str, typer.Argument()] = "tcp://127.0.0.1:5560",
    stream: Annotated[str | None, typer.Option("--stream", metavar="ID", help="Only this stream.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The messages as they are, one a line.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", help="Give up after S seconds without a message."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="NAME.key_secret", help="This client's keys, for an encrypted bus."),
    ] = None,
    server_key: Annotated[
        Path | None, typer.Option("--server-key", metavar="server.key", help="The daemon's public key.")
    ] = None,
) -> None:
    """Print results and events of a running daemon; waits for one that is not there yet.

    Example: streamd tail --stream gate
    """
    import sys

    from streamd.bus.client import messages

    with messages(endpoint, stream=stream, timeout_s=timeout, keys=keys, server_key=server_key) as feed:
        try:
            for topic, body in feed:
                line = body.decode() if json else _line(topic, body)
                if line:
                    print(line, flush=True)
        except TimeoutError as error:
            ask = "" if feed.hint else "; is a daemon running, and does its publish.bind say the same?"
            raise StreamdError(f"{endpoint}: {error}{ask}") from error
        except KeyboardInterrupt:
            sys.exit(0)


def _line(topic: str, body: bytes) -> str | None:
    """One message for people; None for what only programs want (the status each second)."""
    import json

    message = json.loads(body)
    schema = message.get("schema", "")
    if schema.startswith("streamd.result/"):
        seen: dict[str, int] = {}
        for item in message["objects"]:
            seen[item["class"]] = seen.get(item["class"], 0) + 1
        objects = ", ".join(f"{count} {name}" for name, count in seen.items()) or "-"
        return (
            f"{message['stream']:<12} #{message['seq']:<7} {message['stages_ms']['total']:7.1f} ms  "
            f"{message['width']}x{message['height']}  {objects}"
        )
    if schema.startswith("streamd.event/"):
        again = " (replayed)" if message.get("replay") else ""
        parts = (message.get("reason"), message.get("detail"))
        detail = ": ".join(part for part in parts if part)
        return f"{message.get('stream', 'streamd'):<12} {message['event']}{again}  {detail}".rstrip()
    return None if schema.startswith("streamd.status/") else f"{topic}  {body.decode(errors='replace')}"
