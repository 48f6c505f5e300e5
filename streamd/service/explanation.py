"""What the types refuse, said for people: which key on which line, and what it may hold instead.

Texts from the file are never quoted, since any of them may be a secret in the wrong place; numbers are.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamd.service.config import File
from streamd.service.document import Document
from streamd.service.faults import Fault, KeyPath
from streamd.service.values import Allowed, Section

_SECTION = "a mapping with its keys indented below"


def explain(error: ValidationError, document: Document) -> list[Fault]:
    """A fault for every key that the types refuse."""
    found = error.errors(include_url=False)
    at = [details["loc"] for details in found]
    # A list that lost a bad item is also too short: told once, where the item is.
    told = (
        details
        for details in found
        if details["type"] != "too_short" or not any(_inside(loc, details["loc"]) for loc in at)
    )
    by_place: dict[str, Fault] = {}
    for fault in (_fault(details, document) for details in told):
        known = by_place.get(fault.key)
        if known is None or len(fault.problem) > len(known.problem):
            by_place[fault.key] = fault
    return list(by_place.values())


def _inside(loc: tuple[str | int, ...], outer: tuple[str | int, ...]) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing when none is near."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{found[0]}`?" if found else ""


def _fault(details: ErrorDetails, document: Document) -> Fault:
    # Names in angle brackets are branches of a union, not keys.
    keys: KeyPath = tuple(key for key in details["loc"] if not str(key).startswith("<"))
    if details["type"] == "extra_forbidden":
        known = _keys_of(_walk(keys[:-1])[-1][1])
        hint = nearest(str(keys[-1]), known) or f"; the keys here are {', '.join(known)}"
        return document.fault(keys, f"is not a key{hint}")
    depth, may_be = _allowed(keys)
    if details["type"] == "missing" and not isinstance(keys[-1], int):
        return document.fault(keys, f"is missing; it must be {may_be}")
    # What an own check says is better than what the type allows.
    own = str(details["ctx"]["error"]) if details["type"] == "value_error" else ""
    value = details["input"]
    shown = isinstance(value, (int, float)) and not isinstance(value, bool) and "password" not in keys
    problem = own or f"must be {may_be}" + (f", not {value}" if shown else "")
    return document.fault(keys[:depth], problem)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _keys_of(annotation: Any) -> list[str]:
    return [key for inner in _alternatives(annotation) if _is_section(inner) for key in inner.model_fields]


def allowed(*keys: str) -> str:
    """What a key may hold, in the words of the errors: `allowed("runtime", "precision")`."""
    return _allowed(keys)[1]


def _allowed(keys: KeyPath) -> tuple[int, str]:
    """What is allowed, and how many of the keys lead to where that is written (a list is told of whole)."""
    for depth, annotation in reversed(_walk(keys)):
        if text := _words(annotation):
            return depth, text
    return len(keys), _SECTION


def _walk(keys: KeyPath) -> list[tuple[int, Any]]:
    """The types along the keys, as far as they lead."""
    steps: list[tuple[int, Any]] = [(0, File)]
    for depth, key in enumerate(keys, 1):
        found = _step(steps[-1][1], key)
        if found is None:
            break
        steps.append((depth, found))
    return steps


def _step(annotation: Any, key: str | int) -> Any:
    for inner in _alternatives(annotation):
        if _is_section(inner) and key in inner.model_fields:
            field = inner.model_fields[key]
            # Annotated only when there is something to carry.
            marks = tuple(mark for mark in field.metadata if isinstance(mark, Allowed))
            return (field.annotation, *marks)
        if get_origin(inner) is dict:
            return get_args(inner)[1]
        if get_origin(inner) is tuple and isinstance(key, int):
            return get_args(inner)[0]
    return None


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union with all annotations taken off."""
    if isinstance(annotation, tuple):
        return _alternatives(annotation[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _alternatives(member)]
    if hasattr(annotation, "__metadata__"):
        return _alternatives(get_args(annotation)[0])
    return [annotation]


def _words(annotation: Any) -> str:
    """What a type allows, in words; nothing where only the type around it can tell."""
    if isinstance(annotation, tuple):
        marks: tuple[Any, ...] = annotation[1:]
        annotation = annotation[0]
    else:
        marks = getattr(annotation, "__metadata__", ())
    own = [mark.text for mark in marks if isinstance(mark, Allowed)]
    if own:
        return own[-1]
    if get_origin(annotation) in (Union, types.UnionType):
        return next((text for member in get_args(annotation) if (text := _words(member))), "")
    for inner in _alternatives(annotation):
        if get_origin(inner) is Literal:
            return f"one of {', '.join(get_args(inner))}"
        if inner is bool:
            return "true or false"
        if _is_section(inner):
            return _SECTION
    return ""
