"""Messages of a daemon that is newer than this reader."""

from __future__ import annotations

import re

import msgspec

from streamd.bus import wire

_OURS = {schema.partition("/")[0] for schema in (wire.RESULT, wire.EVENT, wire.STATUS)}
_VERSIONED = re.compile(r"([a-z._]{1,40})/([0-9]{1,6})")


class _Led(msgspec.Struct):
    schema: str = ""


_decode = msgspec.json.Decoder(_Led).decode


def newer_schema(header: bytes) -> str | None:
    """The schema of a message in a version that is not known here; None for any other message, and for rubbish.

    Messages grow by addition, so another version is one that cannot be read as this one.
    """
    try:
        schema = _decode(header).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = _VERSIONED.fullmatch(schema)
    return schema if found and found[1] in _OURS and int(found[2]) > 1 else None


def advice(schema: str) -> str:
    """What to tell somebody whose daemon sent this."""
    return f"the daemon speaks {schema}, and this streamd reads version 1; update streamd on this side"
