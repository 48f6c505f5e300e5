"""Options that several verbs share, and how their text becomes values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from streamd.core.errors import MissingFileError, UsageError

Config: TypeAlias = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file.")
]
ModelName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="An ONNX file, or a name that `streamd models list` shows."
    ),
]
HeadName: TypeAlias = Annotated[
    str, typer.Option("--head", help="Family of the model's outputs; auto finds it (see `streamd inspect`).")
]
InputName: TypeAlias = Annotated[
    str, typer.Option("--input", help="How pictures are prepared: a family's name; auto finds or guesses it.")
]
Size: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="N|HxW", help="Input size of a model with symbolic sizes, height x width."
    ),
]
Provider: TypeAlias = Literal["tensorrt", "cuda", "cpu"]
ProviderName: TypeAlias = Annotated[
    str | None,
    typer.Option("--provider", help="tensorrt, cuda or cpu, and no other; else the best that runs."),
]
ONCE_PATIENCE_S = 10.0
"""So long `--once` waits unless told otherwise: a script must not wait for ever for a daemon that is down."""
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option("--timeout", min=0, max=1e6, metavar="S", help="Give up after S seconds without a message."),
]
ClientKeys: TypeAlias = Annotated[
    Path | None,
    typer.Option("--keys", metavar="NAME.key_secret", help="This client's keys, for an encrypted bus."),
]
ServerKey: TypeAlias = Annotated[
    Path | None, typer.Option("--server-key", metavar="server.key", help="The daemon's public key.")
]
BUS = "tcp://127.0.0.1:5560"
"""Where a daemon publishes unless it is told otherwise."""


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`640` or `384x640` (height x width)."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(
        part.isascii() and part.isdigit() and 0 < int(part) <= 8192 for part in parts
    ):
        raise UsageError(f"--size {text}: write a number, or HEIGHTxWIDTH such as 384x640")
    height, width = (int(part) for part in (parts * 2)[:2])
    return height, width


def parse_confidence(text: str) -> float | dict[str, float]:
    """`0.4`, or `person=0.5,default=0.25`."""
    try:
        if "=" not in text:
            return _unit(text)
        pairs = (item.rpartition("=") for item in text.split(","))
        return {name.strip(): _unit(number) for name, _, number in pairs}
    except ValueError as error:
        raise UsageError(
            f"--confidence {text}: write a number from 0 to 1, or CLASS=NUMBER,default=NUMBER"
        ) from error


def _unit(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not between 0 and 1")
    return value


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """`person,car`."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--classes: name at least one class, such as person,car")
    return names


def providers(choice: str | None) -> tuple[Provider, ...]:
    """The order of providers for `--provider`."""
    known: tuple[Provider, ...] = ("tensorrt", "cuda", "cpu")
    chosen = tuple(name for name in known if choice in (None, name))
    if not chosen:
        raise UsageError(f"--provider {choice}: choose one of {', '.join(known)}")
    return chosen


def read_password(file: Path | None, username: str | None) -> str | None:
    """The password for `--username`: from a file (one trailing newline cut), else asked for."""
    if file is not None:
        if username is None:
            raise UsageError(f"--password-file {file}: whose password is it? name the user with --username")
        try:
            return file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise MissingFileError(f"--password-file {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"--password-file {file} is no UTF-8 text; write the password anew") from error
    if username is not None:
        import getpass

        return getpass.getpass(f"Password of {username}: ")
    return None


def refuse_credentials(url: str) -> None:
    """A password on a command line is there for everybody to read."""
    from streamd.service import address

    try:
        address.checked_url(url, secret=False)
    except ValueError as error:
        raise UsageError(
            f"the URL {error}"
            if "credentials" not in str(error)
            else "the URL holds credentials, which everybody can read in the list of processes; "
            "use --username (the password is asked for), --password-file, or -c FILE --stream ID"
        ) from None
