"""The JSON Schema of the configuration, for editors: the types, and the text that stands below each key."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from streamd.service import address
from streamd.service.config import File
from streamd.service.values import Section


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **File.model_json_schema()}
    schema["title"] = "streamd.yaml"
    schema["properties"]["streams"]["propertyNames"] = {"pattern": f"^{address.STREAM_ID}$"}
    # Not pydantic's use_attribute_docstrings: it reads the sources of all sections at each import, so at each start.
    _describe(File, schema)
    for section in _sections(Section):
        if section.__name__ in schema["$defs"]:
            _describe(section, schema["$defs"][section.__name__])
    return schema


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    for child in section.__subclasses__():
        yield child
        yield from _sections(child)


def _describe(section: type[Section], schema: dict[str, Any]) -> None:
    for kind in reversed(section.__mro__):
        if issubclass(kind, Section):
            for name, text in _texts(kind):
                if name in schema.get("properties", {}):
                    schema["properties"][name]["description"] = text


def _texts(section: type[Section]) -> Iterator[tuple[str, str]]:
    """The strings that follow the fields in the class's source, by field."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
