"""Where the configuration publishes: addresses that can be bound, or who has them."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from threading import Event

from streamd.core.errors import OutputError
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item
from streamd.diagnosis.listeners import Listener, listeners_at, listeners_on

_BY_SYSTEMD = Path("/run")


def publish(case: Case) -> Iterator[Item]:
    """The endpoints of results and pictures."""
    config = case.config
    assert config is not None
    for key, address in (("publish.bind", config.publish.bind), ("publish.frames", config.publish.frames)):
        if address is None:
            yield Item(name=key, state="unused", found="null: off")
        elif address.startswith("ipc://"):
            yield _ipc(case, key, Path(address.removeprefix("ipc://")))
        else:
            yield _tcp(case, key, address)


def metrics(case: Case) -> Iterator[Item]:
    """The port of metrics."""
    config = case.config
    assert config is not None
    listen = config.metrics.listen
    if listen is None:
        yield Item(name="metrics.listen", state="unused", found="null: off")
        return
    from streamd.service.pages import PageServer

    ended = Event()
    ended.set()
    try:
        PageServer(listen, {}).run(ended)
    except OutputError as error:
        yield _refused(case, "metrics.listen", listen, error)
    else:
        yield Item(name="metrics.listen", state="ok", found=f"{listen} is free")


def group(case: Case) -> Iterator[Item]:
    """The group that may connect to ipc:// endpoints."""
    config = case.config
    assert config is not None
    name = config.publish.group
    if name is None:
        return
    user = _user()
    try:
        found = grp.getgrnam(name)
    except KeyError:
        text = f"there is no group {name}"
        fix = f"groupadd --system {quote(name)}"
        yield Item(name="publish.group", state="missing", found=text, fix=fix, exit_code=1)
        return
    if os.geteuid() == 0 or found.gr_gid in (os.getegid(), *os.getgroups()):
        yield Item(name="publish.group", state="ok", found=f"{name}, and {user} may give files to it")
        return
    text = f"{user} is not in the group {name}, and may give it nothing"
    fix = f"usermod -aG {quote(name)} {quote(user)}\n# under systemd: SupplementaryGroups={name}"
    yield Item(name="publish.group", state="wrong", found=text, fix=fix, exit_code=1)


def _tcp(case: Case, key: str, address: str) -> Item:
    """Binds for a moment, as the daemon will."""
    from streamd.bus.endpoint import Endpoint

    try:
        Endpoint(key, address).try_out()
    except OutputError as error:
        return _refused(case, key, address, error)
    return Item(name=key, state="ok", found=f"{address} is free")


def _refused(case: Case, key: str, address: str, error: OutputError) -> Item:
    if "is in use" in str(error) or "already in use" in str(error):
        port = int(address.rpartition(":")[2])
        look = f"ss -Hltnp 'sport = :{port}'"
        return _in_use(case, key, address, listeners_on(port, case.root / "proc"), look)
    said, _, cure = str(error).removeprefix(f"{key}: ").partition("; ")
    return Item(name=key, state="wrong", found=said, fix=f"# {cure or f'choose another {key}'}", exit_code=1)


def _in_use(case: Case, key: str, address: str, holders: list[Listener], look: str) -> Item:
    own = next((holder for holder in holders if _runs(holder, case.path)), None)
    if own is not None:
        found = f"{address}: the daemon that runs this configuration has it (process {own.pid})"
        return Item(name=key, state="ok", found=found)
    if not holders:
        fix = f"# choose another {key}; who has it, root can see:\n{look}"
        return Item(name=key, state="wrong", found=f"{address} is in use", fix=fix, exit_code=1)
    names = ", ".join(_named(holder) for holder in holders)
    fix = f"# choose another {key}, or end what has it\nkill {holders[0].pid}"
    return Item(name=key, state="wrong", found=f"{address} is in use by {names}", fix=fix, exit_code=1)


def _named(holder: Listener) -> str:
    if holder.config is not None:
        return f"streamd with {holder.config} (process {holder.pid})"
    return f"{holder.name} (process {holder.pid})"


def _runs(holder: Listener, path: Path | None) -> bool:
    try:
        return holder.config is not None and path is not None and holder.config.samefile(path)
    except OSError:
        return False


def _ipc(case: Case, key: str, path: Path) -> Item:
    """A socket's file is not made here: its folder and what is at its place tell."""
    folder = path.parent
    if not folder.is_dir():
        if folder.parent == _BY_SYSTEMD and folder.name.startswith("streamd"):
            return Item(name=key, state="ok", found=f"{folder} is made when systemd starts the service")
        fix = f"install -d -o {quote(_user())} {quote(str(folder))}"
        return Item(name=key, state="missing", found=f"there is no folder {folder}", fix=fix, exit_code=1)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        fix = f"chown {quote(_user())} {quote(str(folder))}"
        found = f"{_user()} may not write into {folder}"
        return Item(name=key, state="wrong", found=found, fix=fix, exit_code=1)
    try:
        mode = path.stat().st_mode
    except OSError:
        return Item(name=key, state="ok", found=f"{path} is free")
    if not stat.S_ISSOCK(mode):
        fix = "# choose another path"
        return Item(name=key, state="wrong", found=f"{path} is there and is no socket", fix=fix, exit_code=1)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return Item(name=key, state="ok", found=f"{path} is free (nobody listens on what was left there)")
    look = f"ss -Hlxp src {quote(str(path))}"
    return _in_use(case, key, f"ipc://{path}", listeners_at(path, case.root / "proc"), look)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
