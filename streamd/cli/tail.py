"""`streamd tail`: print what a daemon publishes."""

from __future__ import annotations

from typing import Annotated

import typer

from streamd.cli import options
from streamd.core.errors import StreamdError
from streamd.core.text import printable


def tail(
    endpoint: Annotated[str, typer.Argument()] = options.BUS,
    stream: Annotated[str | None, typer.Option("--stream", metavar="ID", help="Only this stream.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The messages as they are, one a line.")] = False,
    timeout: options.Timeout = None,
    keys: options.ClientKeys = None,
    server_key: options.ServerKey = None,
) -> None:
    """Print results and events of a running daemon; waits for one that is not there yet.

    Example: streamd tail --stream gate
    """
    import sys

    from streamd.bus.client import messages
    from streamd.bus.versions import advice, newer_schema

    with messages(endpoint, stream=stream, timeout_s=timeout, keys=keys, server_key=server_key) as feed:
        try:
            for topic, body in feed:
                # The status is not shown, in whatever version; with --json everything is, as it is.
                if not json and not topic.endswith("/status") and (schema := newer_schema(body)):
                    raise StreamdError(f"{endpoint}: {advice(schema)}; --json shows the messages as they are")
                try:
                    line = _as_it_is(body) if json else _line(topic, body)
                # What a message of another program can be: no text, no JSON, too deep, or of another shape.
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    raise StreamdError(
                        f"{endpoint}: what comes on {printable(topic)} is no message of streamd; update streamd on"
                        " this side, or check the endpoint"
                    ) from error
                if line:
                    print(line, flush=True)
        except TimeoutError as error:
            ask = "" if feed.hint else "; is a daemon running, and does its publish.bind say the same?"
            raise StreamdError(f"{endpoint}: {error}{ask}") from error
        except KeyboardInterrupt:
            sys.exit(0)


def _as_it_is(body: bytes) -> str:
    """The message's own text, which is JSON, on one line."""
    import json

    text = body.decode()
    json.loads(text)
    return text.replace("\n", " ").replace("\r", " ")


def _line(topic: str, body: bytes) -> str | None:
    """One message for people; None for what only programs want (the status each second)."""
    line = _summary(topic, body)
    return None if line is None else printable(line)


def _summary(topic: str, body: bytes) -> str | None:
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
