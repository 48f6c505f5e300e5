"""Who listens on a port of this machine, or on a socket's file: from /proc, as far as this user may look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TCP = "0A"  # TCP_LISTEN in /proc/net/tcp
_UNIX = "00010000"  # __SO_ACCEPTCON in /proc/net/unix


@dataclass(frozen=True, slots=True)
class Listener:
    """A process. config: the absolute path of the configuration, of a `streamd run`; None of any other program."""

    pid: int
    name: str
    config: Path | None


def listeners_on(port: int, proc: Path = Path("/proc")) -> list[Listener]:
    """Those who listen on a TCP port, whatever the address; processes of other users are seen by root only."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in _lines(proc / "net" / table)]
    return _holders(
        {words[9] for words in lines if words[3] == _TCP and int(words[1].rpartition(":")[2], 16) == port},
        proc,
    )


def listeners_at(path: Path, proc: Path = Path("/proc")) -> list[Listener]:
    """Those who listen on the socket that was bound at this path."""
    lines = [line.split(maxsplit=7) for line in _lines(proc / "net" / "unix")]
    return _holders({words[6] for words in lines if words[3] == _UNIX and words[7:] == [str(path)]}, proc)


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text(errors="replace").splitlines()[1:]
    except OSError:
        return []


def _holders(inodes: set[str], proc: Path) -> list[Listener]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return (
        [_listener(process) for process in _processes(proc) if wanted & _sockets(process)] if wanted else []
    )


def _processes(proc: Path) -> Iterator[Path]:
    yield from (entry for entry in proc.iterdir() if entry.name.isdigit())


def _sockets(process: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for handle in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(handle.readlink()))
    return found


def _listener(process: Path) -> Listener:
    """Only the program's own name is kept of the others: a command line may hold secrets."""
    name, words, folder = "?", [], Path("/")
    with contextlib.suppress(OSError):
        name = (process / "comm").read_text().strip()
        words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")]
        folder = (process / "cwd").readlink()
    return Listener(int(process.name), name, _configuration(words, folder))


def _configuration(words: list[str], folder: Path) -> Path | None:
    """The file behind -c of a `streamd run`."""
    if "run" not in words or not any(Path(word).name == "streamd" for word in words[: words.index("run")]):
        return None
    rest = words[words.index("run") + 1 :]
    for at, word in enumerate(rest):
        if word in ("-c", "--config") and at + 1 < len(rest):
            return folder / rest[at + 1]
        for lead in ("--config=", "-c"):
            if word.startswith(lead) and len(word) > len(lead):
                return folder / word.removeprefix(lead)
    return folder / "streamd.yaml"
