"""A YAML file read as plain data, with the place of every key, under YAML 1.2's scalars.

PyYAML follows YAML 1.1, which turns `off` into False, `007` into 7, `12:30` into 750 and lets a second key of
the same name win in silence. Only its parser is used here: the events become data by the rules of this
file. There are no tags, so no text can become an object; anchors and aliases work, with a bound on what they
unfold to. No message quotes a value of the file: a password may stand anywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from streamd.core.errors import MissingFileError
from streamd.service.faults import ConfigFaultsError, Fault, KeyPath, Place, dotted

Value: TypeAlias = "str | int | float | bool | dict[str, Value] | list[Value] | None"

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Values in the file once every alias is unfolded; 64 streams with every key set are about 2000."""

# Shorter than what an int or a float can hold exactly in every reader; longer ones stay text.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?=.*[.eE])(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(slots=True)
class _Node:
    """A value with its place; an entry of a mapping has the place of its key as well."""

    value: str | int | float | bool | dict[str, _Node] | list[_Node] | None
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Document:
    """The file's data, a mapping at the top, and where each part of it stands."""

    path: Path
    value: dict[str, Value]
    faults: tuple[Fault, ...]
    """Keys that stand twice; the first of them counts in `value`."""
    _root: _Node

    def place(self, keys: KeyPath) -> Place:
        """Where a key, or what comes nearest above it, stands."""
        node, place = self._root, self._root.place
        for key in keys:
            if isinstance(node.value, dict) and isinstance(key, str) and key in node.value:
                place, node = node.keys[key], node.value[key]
            elif isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                place = node.place
            else:
                break
        return place

    def fault(self, keys: KeyPath, problem: str, *, missing: bool = False) -> Fault:
        """A fault at this key."""
        return Fault(self.path, self.place(keys), dotted(keys), problem, missing)


def scalar(text: str) -> str | int | float | bool | None:
    """What a plain (unquoted) scalar means: true, false, null, decimal numbers; all else is text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def read_document(path: Path) -> Document:
    """Reads a file whose top level is a mapping.

    Raises MissingFileError when the file is not there or may not be read; ConfigFaultsError when it is not
    UTF-8, not YAML, empty, or not a mapping at the top.
    """
    text = _decoded(path)
    builder = _Builder(path)
    try:
        root = builder.build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark) if mark else None
        # from None: the foreign error quotes the line, which may hold a password
        raise ConfigFaultsError((Fault(path, place, "", f"not YAML: {error.problem}"),)) from None
    except yaml.reader.ReaderError as error:
        problem = "not YAML: a control character that YAML does not allow"
        before = text[: error.position].splitlines(keepends=True)
        place = Place(1 + sum(line.endswith(("\n", "\r")) for line in before), 1)
        raise ConfigFaultsError((Fault(path, place, "", problem),)) from None
    value = _plain(root)
    if not isinstance(value, dict):
        problem = "the top level must be a mapping with `model:` and `streams:`"
        raise ConfigFaultsError((*builder.faults, Fault(path, root.place, "", problem)))
    return Document(path, value, tuple(builder.faults), root)


def write(value: dict[str, Any]) -> str:
    """Plain data as YAML that `read_document` reads back as the same: what looks like more is quoted."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes a text plain only where this file's rules and those of YAML 1.1 both take it for text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        style = None if isinstance(scalar(text), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)

    def represent_row(self, values: list[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_row)


def _decoded(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; name the configuration with -c") from error
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the path
        raise MissingFileError(f"{str(path)!r}: not a path") from error
    if len(raw) > MAX_BYTES:
        raise ConfigFaultsError(
            (Fault(path, None, "", f"larger than {MAX_BYTES >> 20} MiB, so no configuration"),)
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(raw.count(b"\n", 0, error.start) + 1, 1)
        raise ConfigFaultsError(
            (Fault(path, place, "", "not UTF-8 text; save the file as UTF-8"),)
        ) from error
    if not text.strip():
        raise ConfigFaultsError((Fault(path, None, "", "is empty; start from config/streamd.yaml"),))
    return text


def _place(mark: Any) -> Place:
    """The place of one of PyYAML's marks, which count from 0."""
    return Place(mark.line + 1, mark.column + 1)


def _plain(node: _Node) -> Value:
    if isinstance(node.value, dict):
        return {key: _plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(child) for child in node.value]
    return node.value


class _Builder:
    """Turns the parser's events into nodes; faults that do not stop the reading are collected."""

    def __init__(self, path: Path) -> None:
        self.faults: list[Fault] = []
        self._path = path
        self._anchors: dict[str, _Node] = {}

    def build(self, text: str) -> _Node:
        events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        root: _Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._stop(event, "a second document (---); one file holds one configuration")
                root = self._node(next(events), events, 1)
        if root is None:
            raise ConfigFaultsError(
                (Fault(self._path, None, "", "is empty; start from config/streamd.yaml"),)
            )
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._stop(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._stop(
                    event, "an alias (*) without its anchor (&) above; quote a text that starts with *"
                )
            return self._anchors[event.anchor]
        if getattr(event, "tag", None) is not None:
            raise self._stop(event, "a tag (!); tags are not read, quote a text that starts with !")
        node: _Node
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(event, events, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            assert isinstance(event, yaml.ScalarEvent)
            self._check_text(event)
            plain = event.style is None
            node = _Node(scalar(event.value) if plain else event.value, _place(event.start_mark))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _mapping(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        children: dict[str, _Node] = {}
        node = _Node(children, _place(start.start_mark))
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or event.anchor is not None:
                raise self._stop(event, "a key must be plain text")
            self._check_text(event)
            key, place = event.value, _place(event.start_mark)
            child = self._node(next(events), events, depth + 1)
            if key == "<<":
                raise self._stop(
                    event, "merge keys (<<) are not YAML 1.2; what all streams share goes into `defaults:`"
                )
            if key in children:
                first = node.keys[key].line
                self.faults.append(
                    Fault(self._path, place, dotted((key,)), f"stands twice, first on line {first}; keep one")
                )
                continue
            children[key] = child
            node.keys[key] = place
            self._grow(node, child, event)
        return node

    def _sequence(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        children: list[_Node] = []
        node = _Node(children, _place(start.start_mark))
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            child = self._node(event, events, depth + 1)
            children.append(child)
            self._grow(node, child, event)
        return node

    def _check_text(self, event: yaml.ScalarEvent) -> None:
        # "\\ud800" in quotes is YAML, but half a character: no file name or message can hold it.
        if any("\ud800" <= letter <= "\udfff" for letter in event.value):
            raise self._stop(event, "half of a surrogate pair (\\ud800 to \\udfff), which is no character")

    def _grow(self, node: _Node, child: _Node, event: yaml.Event) -> None:
        """Counts what an alias unfolds to, without unfolding it."""
        node.size += child.size
        node.height = max(node.height, child.height + 1)
        if node.height > MAX_DEPTH:
            raise self._stop(event, f"nested deeper than {MAX_DEPTH} levels once its aliases are unfolded")
        if node.size > MAX_NODES:
            raise self._stop(event, f"more than {MAX_NODES} values once its aliases are unfolded")

    def _stop(self, event: yaml.Event, problem: str) -> ConfigFaultsError:
        return ConfigFaultsError((Fault(self._path, _place(event.start_mark), "", problem),))
