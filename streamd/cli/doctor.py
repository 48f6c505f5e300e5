"""`streamd doctor`: what this machine has, what it lacks, and what mends it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli.stopping import Stop
from streamd.core.colours import coloured

if TYPE_CHECKING:
    from streamd.diagnosis.finding import Check, Item

_WIDTH = 80
_STATE, _NAME = 9, 18
_COLOURS = {"ok": typer.colors.GREEN, "missing": typer.colors.YELLOW, "wrong": typer.colors.RED}
_LONG_S = 60.0


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Also check what this configuration asks for."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, streamd.doctor/1.")] = False,
) -> None:
    """Check this machine, and say what mends what is missing or wrong. Changes nothing, leaves no files.

    Providers and decoders are tried, in a process of their own. Run it as the user that runs streamd. Ends with 1
    when streamd, or with -c this configuration, cannot run here, with 2 when the file must be changed.

    Example: streamd doctor -c /etc/streamd/streamd.yaml
    """
    from contextlib import closing

    from streamd import __version__
    from streamd.cli import complain
    from streamd.diagnosis import examination, finding

    items: list[Item] = []
    unused: dict[str, list[str]] = {}
    with (
        Stop(),
        closing(examination.examine(config, begun=lambda check: None if json else _tell(check))) as found,
    ):
        for item in found:
            items.append(item)
            if json:
                continue
            if item.state == "unused" and not item.fix:
                unused.setdefault(item.found, []).append(item.name)
            else:
                _show(item.state, item.name, item.found, item.fix)
    report = finding.report_of(__version__, None if config is None else str(config), items)
    if json:
        print(finding.encode(report).decode())
    for why, names in unused.items():
        _show("unused", "", f"{', '.join(names)}: {why}", "")
    if report.exit_code:
        what = "streamd" if config is None else str(config)
        kept = dict.fromkeys(item.name for item in items if item.exit_code)
        complain(f"{what} cannot run here: {', '.join(kept)}")
        raise typer.Exit(report.exit_code)


def _tell(check: Check) -> None:
    """What may take long is said beforehand, to who sits there."""
    if check.limit_s > _LONG_S and coloured(sys.stderr) and coloured(sys.stdout):
        print(f"\r{check.name} ...\x1b[K\r", end="", file=sys.stderr, flush=True)


def _show(state: str, name: str, found: str, fix: str) -> None:
    from streamd.core.text import printable

    lead = f"{state:<{_STATE}}{name:<{_NAME}}" if name else f"{state:<{_STATE}}"
    margin = " " * (_STATE + (_NAME if name else 0))
    lines = list(_wrapped(printable(found), _WIDTH - len(margin)))
    if len(name) >= _NAME:
        lines.insert(0, "")
    first, *rest = lines
    text = "\n".join([(lead + first).rstrip(), *(margin + line for line in rest)])
    end = "\x1b[K" if coloured(sys.stdout) else ""
    print(_painted(state, text[:_STATE]) + text[_STATE:] + end)
    for line in fix.splitlines():
        for part in _cure(printable(line), _WIDTH - _STATE):
            print(" " * _STATE + part)
    if sys.stdout is not None:
        sys.stdout.flush()


def _cure(line: str, width: int) -> Iterator[str]:
    """A command stays on one line, so that it can be copied; what is no command is wrapped."""
    if not line.startswith("# "):
        yield line
        return
    yield from (f"# {part}" for part in _wrapped(line.removeprefix("# "), width - 2))


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _painted(state: str, text: str) -> str:
    if not coloured(sys.stdout):
        return text
    return typer.style(text, fg=_COLOURS.get(state), dim=state == "unused" or None)
