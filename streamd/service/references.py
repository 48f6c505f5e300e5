"""Values that stand outside the configuration file: `${cred:NAME}` and `${env:NAME}`.

A reference is always a whole value, so nothing that is secret can hide in the middle of something that is
shown. What it stands for is text, whatever it looks like.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamd.core.files import at_once
from streamd.service.document import Document, Value
from streamd.service.faults import Fault, KeyPath

_WHOLE = re.compile(r"\$\{(cred|env):([A-Za-z0-9_][A-Za-z0-9_.-]*)\}")
_PART = re.compile(r"\$\{\s*(cred|env)\s*:|^\$\{[^}]*\}$", re.IGNORECASE)
_LARGEST = 1 << 16
_LONGEST_NAME = 255
"""What a file of a credential can be called; systemd allows no more either."""


@dataclass(slots=True)
class Resolved:
    """The file's data with every reference replaced; `given` has the text of each by its key."""

    value: dict[str, Value] = field(default_factory=dict)
    given: dict[KeyPath, str] = field(default_factory=dict)
    credentials: set[str] = field(default_factory=set)
    """What came from credentials; environment variables hold other things than secrets as well."""
    faults: list[Fault] = field(default_factory=list)


def resolve(document: Document, environ: Mapping[str, str]) -> Resolved:
    """Replaces every reference, collecting a fault for each one that has no value here or is not whole."""
    resolved = Resolved()
    value = _replace(document.value, (), document, environ, resolved)
    assert isinstance(value, dict)
    resolved.value = value
    return resolved


def _replace(
    value: Value, keys: KeyPath, document: Document, environ: Mapping[str, str], resolved: Resolved
) -> Value:
    if isinstance(value, dict):
        return {
            key: _replace(child, (*keys, key), document, environ, resolved) for key, child in value.items()
        }
    if isinstance(value, list):
        return [_replace(child, (*keys, at), document, environ, resolved) for at, child in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    found = _WHOLE.fullmatch(value)
    if found is None:
        if _PART.search(value):
            problem = "a reference is a whole value, ${cred:NAME} or ${env:NAME}, never a part of one"
            resolved.faults.append(document.fault(keys, problem))
        return value
    if len(found[2]) > _LONGEST_NAME:
        problem = f"a reference whose name is longer than {_LONGEST_NAME} characters"
        resolved.faults.append(document.fault(keys, problem))
        return value
    try:
        text = _credential(found[2], environ) if found[1] == "cred" else _variable(found[2], environ)
    except LookupError as error:
        resolved.faults.append(document.fault(keys, f"{found[0]}: {error.args[0]}", missing=True))
        return value
    resolved.given[keys] = text
    if found[1] == "cred":
        resolved.credentials.add(text)
    return text


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise LookupError(f"the environment variable {name} is not set")
    value = environ[name]
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise LookupError(f"the environment variable {name} is not UTF-8 text")
    return value


def _credential(name: str, environ: Mapping[str, str]) -> str:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        problem = f"$CREDENTIALS_DIRECTORY is not set; the systemd unit needs LoadCredential={name}:FILE"
        raise LookupError(problem)
    try:
        with open(Path(folder) / name, "rb", opener=at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise LookupError("the credential is no file")
            raw = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise LookupError(f"no such credential; the systemd unit needs LoadCredential={name}:FILE") from None
    except OSError as error:
        raise LookupError(f"the credential cannot be read: {error.strerror or error}") from error
    if len(raw) > _LARGEST:
        raise LookupError(f"the credential is larger than {_LARGEST} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # from None: the foreign error carries the bytes of the secret
        raise LookupError("the credential is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\r\n") else text.removesuffix("\n")


def credentials_named(value: Value) -> set[str]:
    """The names of all `${cred:NAME}` in a document, without reading one of them."""
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return set[str]().union(*map(credentials_named, children))
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return {found[2]} if found is not None and found[1] == "cred" else set()
