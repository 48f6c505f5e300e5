"""The systemd unit for the place where streamd lives, and what would keep it from starting there."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from streamd.core.errors import MissingFileError, OutputError, UsageError
from streamd.service.document import read_document
from streamd.service.references import credentials_named

CONFIG = Path("/etc/streamd/streamd.yaml")
UNIT_DIR = Path("/etc/systemd/system")
USER = "streamd"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9@%$+=:,./_-]+")
# What ProtectHome=yes and PrivateTmp=yes put out of sight.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # nosec B108  # nothing is written


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs from one installation to the next.

    config: an absolute path; `%i` in it stands for the instance of a template. credentials: names, for
    LoadCredential= from the folder `credentials` beside the configuration.
    """

    command: tuple[str, ...] = ("/usr/bin/env", "streamd")
    config: Path = CONFIG
    user: str = USER
    template: bool = False
    credentials: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "streamd@.service" if self.template else "streamd.service"

    def text(self) -> str:
        """The unit file. Raises UsageError for a path or a user that a unit cannot hold."""
        if _USER.fullmatch(self.user) is None:
            raise UsageError(f"--user {self.user}: that is no name of a user; choose one such as {USER}")
        changes = {
            "ExecStart=": f"ExecStart={self._start_line()}",
            "User=": f"User={self.user}",
        }
        if self.credentials:
            folder = str(self.config.parent / "credentials").replace("%", "%%")
            lines = (f"LoadCredential={name}:{folder}/{name}" for name in self.credentials)
            changes["# LoadCredential="] = "\n".join(lines)
        if self.template:
            changes |= {
                "Description=": "Description=streamd: object detection on cameras (%i)",
                "# /var/lib/streamd": "# All instances share /var/lib/streamd (models) and /var/cache/streamd "
                "(engines).\n# /run/streamd-%i is for ipc:// sockets and goes when its instance ends.",
                "RuntimeDirectory=": "RuntimeDirectory=streamd-%i",
            }
        shipped = resources.files("streamd").joinpath("assets", "streamd.service").read_text(encoding="utf-8")
        written = []
        for line in shipped.splitlines():
            start = next((start for start in changes if line.startswith(start)), None)
            written.append(line if start is None else changes.pop(start))
        assert not changes, changes
        return "\n".join(written) + "\n"

    def _start_line(self) -> str:
        config = str(self.config).replace("%", "%%").replace("$", "$$")
        if self.template:
            config = config.removesuffix("%%i.yaml") + "%i.yaml"
        # systemd takes a $ in the program's own name as it is, unlike in its arguments.
        program, *words = (word.replace("%", "%%") for word in self.command)
        return " ".join(map(_quoted, (program, *words, "run", "-c", config)))

    def obstacles(self) -> Iterator[str]:
        """What keeps the unit from starting here as things are now, a line each."""
        account = _account(self.user)
        if account is None:
            yield f"there is no user {self.user}: {make_user(self.user)}"
        for path in dict.fromkeys((Path(self.command[0]), Path(sys.prefix), Path(sys.base_prefix))):
            if any(path.is_relative_to(folder) for folder in _HIDDEN):
                yield f"{path} is hidden from the service; install streamd below /opt, such as in /opt/streamd"
                break
            if account is not None and not _may_read(path, account):
                yield f"{path} may not be read by {self.user}; install streamd below /opt"
        if self.template:
            return
        if not self.config.is_file():
            yield f"{self.config} is not there yet; the service starts once it is"
        elif any(self.config.is_relative_to(folder) for folder in _HIDDEN):
            yield f"{self.config} is hidden from the service; put it into {CONFIG.parent}"
        elif account is not None and not _may_read(self.config, account):
            yield f"{self.config} may not be read by {self.user}; give it and its folders the right to read"
        for name in self.credentials:
            file = self.config.parent / "credentials" / name
            if not file.is_file():
                yield f"{file} is not there yet; the service starts once it is (mode 0600, owned by root)"


def this_command() -> tuple[str, ...]:
    """How this streamd is started, by absolute path."""
    script = Path(sys.executable).with_name("streamd")
    if os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-m", "streamd")


def credentials_of(config: Path) -> tuple[str, ...]:
    """The credentials that a configuration names. Raises StreamdError when it cannot be read."""
    return tuple(sorted(credentials_named(read_document(config).value)))


def make_user(user: str) -> str:
    """The command that makes the service's user."""
    return f"useradd --system --user-group --home-dir /var/lib/streamd --shell /usr/sbin/nologin {user}"


def install(unit: Unit, folder: Path, *, force: bool) -> Path:
    """Write the unit into `folder`, whole or not at all; one that is there and the same is left alone.

    Raises UsageError when another is there (without `force`), MissingFileError when the folder is not,
    OutputError when it cannot be written.
    """
    path = folder / unit.name
    text = unit.text()
    if not os.path.isdir(folder):  # unlike Path's, it does not raise where one may not look
        raise MissingFileError(f"{folder} is no folder; name the one of systemd's units with --unit-dir")
    if os.path.lexists(path) and not force:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_text(encoding="utf-8") == text:
                return path
        raise UsageError(f"{path} exists; overwrite it with --force, or look at the new one with --print")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".streamd") as corner:
            draft = Path(corner) / unit.name
            draft.write_text(text, encoding="utf-8")
            draft.chmod(0o644)
            draft.replace(path)
    except PermissionError as error:
        raise OutputError(f"{path} may not be written by this user; run it as root (sudo)") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _quoted(word: str) -> str:
    """A word of ExecStart=. Raises UsageError for what no unit can hold."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
        raise UsageError(f"{word!r} holds a control character, which no unit can hold; rename it")
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def _may_read(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether the mode bits let this user through all folders to the file (or folder) and read it."""
    groups = {account.pw_gid, *(group.gr_gid for group in grp.getgrall() if account.pw_name in group.gr_mem)}
    for place in (path, *path.parents):
        try:
            state = place.stat()
        except OSError:
            return False
        wanted = 0o4 if place == path else 0o1
        if account.pw_uid == state.st_uid:
            wanted <<= 6
        elif state.st_gid in groups:
            wanted <<= 3
        if not state.st_mode & wanted and account.pw_uid != 0:
            return False
    return True
