"""systemd's unit: whether it is there, of this version, and what keeps it from starting."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from streamd.core.errors import StreamdError
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item
from streamd.service import unit as units

_SYSTEMD = "run/systemd/system"


def unit(case: Case) -> Iterator[Item]:
    """The installed units against what this streamd would install."""
    if not (case.root / _SYSTEMD).is_dir():
        yield Item(name="systemd unit", state="unused", found="systemd does not run here")
        return
    folder = case.root / units.UNIT_DIR.relative_to("/")
    found = [folder / units.Unit(template=template).name for template in (False, True)]
    there = [path for path in found if path.is_file()]
    if not there:
        fix = f"sudo {shlex.join(units.this_command())} service install"
        yield Item(
            name="systemd unit", state="unused", found="not installed: streamd is started by hand", fix=fix
        )
    for path in there:
        yield from _compared(path)


def _compared(path: Path) -> Iterator[Item]:
    name = path.name
    template = name == "streamd@.service"
    text = path.read_text(errors="replace")
    start = (_settings(text, "ExecStart") or [""])[0]
    user = (_settings(text, "User") or [units.USER])[0]
    words = _words(start)
    here = shlex.join(units.this_command())
    again = f"sudo {here} service install --force" + " --template" * template
    if words[-3:-1] != ["run", "-c"]:
        fix = f"{again}\nsystemctl daemon-reload"
        yield Item(
            name=name, state="wrong", found=f"{path} does not start streamd as its own unit does", fix=fix
        )
        return
    *command, _, _, config = words
    given = config.removesuffix("/%i.yaml") if template else config
    again += f" -c {shlex.quote(given)} --user {shlex.quote(user)}\nsystemctl daemon-reload"
    names = (line.partition(":")[0] for line in _settings(text, "LoadCredential"))
    installed = units.Unit(tuple(command), Path(config), user, template, tuple(names))
    try:
        same = installed.text() == text
    except StreamdError:
        same = False
    if not same:
        found = f"{path} is another version's, or was edited (drop-ins outlive an install)"
        yield Item(name=name, state="wrong", found=found, fix=again)
    elif tuple(command) != units.this_command():
        found = f"starts {shlex.join(command)}, not {here}"
        yield Item(name=name, state="wrong", found=found, fix=again)
    else:
        yield Item(name=name, state="ok", found=f"{path}, as this version installs it")
    for line in installed.obstacles():
        problem, _, cure = line.partition("; ")
        if not cure and ": " in problem:  # a command
            problem, _, cure = problem.partition(": ")
        else:
            cure = f"# {cure}"
        yield Item(name=name, state="wrong", found=problem, fix=cure)


def _settings(text: str, key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", text)


def _words(start: str) -> list[str]:
    """What ExecStart= starts: %% and $$ stand for one each (not in the program's own name), but for `%i`."""
    try:
        program, *words = shlex.split(start)
    except ValueError:
        return []
    return [program.replace("%%", "%"), *(word.replace("%%", "%").replace("$$", "$") for word in words)]
