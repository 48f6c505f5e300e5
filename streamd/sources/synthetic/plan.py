"""What a `test:` address asks for. Imports nothing heavy: configurations are checked with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from streamd.core.errors import Reason, SourceError

_FAULTS = ("stall", "drop", "burst", "corrupt", "resize", "clockjump", "end", "error")


@dataclass(slots=True)
class Fault:
    """One entry of the schedule; which of the values counts depends on its name."""

    name: str
    at_s: float
    number: int = 0
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)
    reason: Reason = Reason.EOF


@dataclass(slots=True)
class Plan:
    """What a `test:` address asks for. size: width, height. pace: "real", or "fast" for as fast as they are taken."""

    size: tuple[int, int] = (640, 360)
    rate: float = 25.0
    gop: int = 25
    frames: int | None = None
    pace: Literal["real", "fast"] = "real"
    faults: list[Fault] = field(default_factory=list)


def plan_of(url: str) -> Plan:
    """Raises SourceError, naming the part that cannot be."""
    plan = Plan()
    body = re.sub(r"^test:(//)?", "", url, count=1, flags=re.I)
    if body and not body.startswith("?"):
        raise _unknown(
            url, body.partition("?")[0], "write options after a question mark, as in test:?rate=15"
        )
    for key, value in parse_qsl(body.removeprefix("?"), keep_blank_values=True):
        try:
            _set(plan, key, value)
        except (ValueError, KeyError):
            raise _unknown(url, f"{key}={value}", _HINTS.get(key, _HINTS["fault"])) from None
    plan.faults.sort(key=lambda fault: fault.at_s)
    return plan


_HINTS = {
    "size": "size=640x360, both even and from 16 to 8192",
    "rate": "rate=25, above 0 and at most 1000",
    "gop": "gop=25, a keyframe every so many pictures",
    "frames": "frames=100, the source ends after so many",
    "pace": "pace=real or pace=fast",
    "fault": f"there are size, rate, gop, frames, pace, and {', '.join(_FAULTS)} as name=AT/WHAT",
}


def _set(plan: Plan, key: str, value: str) -> None:
    """Raises ValueError or KeyError for what cannot be."""
    match key:
        case "size":
            plan.size = _size(value)
        case "rate":
            plan.rate = _positive(value, 1000)
        case "gop":
            plan.gop = int(_positive(value, 100_000))
        case "frames":
            plan.frames = int(_positive(value, 2**31))
        case "pace":
            if value not in ("real", "fast"):
                raise ValueError
            plan.pace = "real" if value == "real" else "fast"
        case _:
            if key not in _FAULTS:
                raise KeyError
            plan.faults.extend(_fault(key, entry) for entry in value.split(","))


def _fault(name: str, entry: str) -> Fault:
    at, slash, what = entry.partition("/")
    fault = Fault(name, _seconds(at))
    if bool(slash) != (name != "end") or fault.at_s < 0:
        raise ValueError
    match name:
        case "stall":
            fault.seconds = _positive(what, 86_400)
        case "clockjump":
            fault.seconds = _seconds(what)
        case "resize":
            fault.size = _size(what)
        case "error":
            fault.reason = Reason(what)
        case "drop" | "burst" | "corrupt":
            fault.number = int(_positive(what, 100_000))
    return fault


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if match is None:
        raise ValueError
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2 or not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise ValueError
    return width, height


def _positive(text: str, most: float) -> float:
    number = _seconds(text)
    if not 0 < number <= most or ("." not in text and number != int(number)):
        raise ValueError
    return number


def _seconds(text: str) -> float:
    if not re.fullmatch(r"-?\d{1,9}(\.\d{1,6})?", text):
        raise ValueError
    return float(text)


def _unknown(url: str, part: str, hint: str) -> SourceError:
    return SourceError(Reason.ERROR, f"{url[:200]}: {part[:80]!r} is not understood; {hint}")
