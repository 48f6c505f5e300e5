"""Messages that are none of streamd's, or not any more, made by a seed from good ones."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from streamd.bus import wire
from tests.support.damage import damaged

_RESULT = wire.ResultMessage(
    run="r1", stream="gate", epoch=0, seq=3, frame=4, dropped=1, pts=0.5, received_us=10, published_us=20,
    clock="rtcp", width=64, height=48, model="m@1", provider="CPUExecutionProvider",
    stages_ms={"decode": 1.0, "total": 2.5}, objects=[wire.Object(0, "person", 0.5, (1.0, 2.0, 3.0, 4.0))],
)  # fmt: skip
_EVENT = wire.EventMessage(
    run="r1", stream="gate", epoch=0, n=7, at_us=9, event="lost", reason="timeout", detail="no data for 5 s"
)
_STATUS = wire.StatusMessage(
    run="r1", version="1", uptime_s=1.5, provider="CPUExecutionProvider", model="m@1",
    streams={"gate": wire.StreamStatus(state="live", fps=25.0, seq=3, decoded=4, dropped=1)},
)  # fmt: skip
GOOD: dict[str, bytes] = {
    "streamd/gate/results": wire.encode(_RESULT),
    "streamd/gate/events": wire.encode(_EVENT),
    "streamd/_daemon/status": wire.encode(_STATUS),
}
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1e308, "", "x" * 10_000, "\ud800", "\x1b[2J\n", "\0", [], [[]], {},
    {"a": None}, [None] * 50,
    "streamd.result/1", "streamd.event/1", "streamd.status/1", "streamd.result/9", "other",
)  # fmt: skip
_RAW = (
    b"", b"null", b"[]", b"{}", b"7", b'"x"', b"{", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"[" * 100_000,
    b'{"a":' * 100_000, b"9" * 100_000, b"1e999", b"NaN", b'{"schema": NaN}', b"\0" * 100, b"\n\n\n", b"-" * 1000,
    b'{"schema": "streamd.result/1"}', b'{"schema": ["x"]}', b'{"schema": "streamd.event/1", "event": "\xff"}',
)  # fmt: skip


def message_of(seed: int) -> tuple[str, bytes]:
    """The topic and the bytes of a seed."""
    chance = random.Random(seed)
    topic = chance.choice(list(GOOD))
    good = GOOD[topic]
    kind = seed % 4
    if kind == 0:
        return topic, damaged(good, seed, list(GOOD.values()))
    if kind == 1:
        return topic, chance.choice(_RAW)
    message = json.loads(good)
    for _ in range(chance.choice((1, 1, 3))):
        _change(message, chance)
    if kind == 2:
        return topic, json.dumps(message).encode()
    text = json.dumps(message).replace('": "', chance.choice(('": "\xff', '": "\\ud800', '": "', '":"\t')), 1)
    place = chance.randrange(len(text))
    buried = chance.choice(("[", '{"a":', " ", "\n")) * chance.choice((1, 2000, 100_000))
    return topic, (text if chance.random() < 0.5 else text[:place] + buried + text[place:]).encode(
        "latin-1", "replace"
    )


def _change(message: Any, chance: random.Random) -> None:
    holder = message
    while True:
        keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(holder[key], (dict, list)) and holder[key] and chance.random() < 0.6:
            holder = holder[key]
            continue
        if chance.random() < 0.3:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(chance.choice(_VALUES))  # the next damage may go into it
        return
