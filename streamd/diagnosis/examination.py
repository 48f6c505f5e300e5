"""Runs the checks in a child process, so that what hangs or crashes there is one item and not the end.

The child works the table off from a row on and tells each item as it is found. When it has died, or a row takes too
long, that row gets an item that says so, and another child begins behind it, knowing what was found.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from streamd.core import child
from streamd.core.text import printable, utf8
from streamd.core.timing import Deadline
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Check, Item

TABLE = "streamd.diagnosis.table"
_CHILD = "from streamd.diagnosis.examination import main; main()"
_START_S = 60.0
_LEAVE_S = 1.0


def examine(
    path: Path | None, table: str = TABLE, begun: Callable[[Check], None] = lambda check: None
) -> Generator[Item]:
    """Every item of every check in `table`, a module with CHECKS, as it is found; `begun` is told of each check.

    path: of a configuration, or None. Blocks for as long as the checks take, each for its limit at most; leaves no
    process behind but one that the kernel does not let go, and no file.
    """
    checks: Sequence[Check] = import_module(table).CHECKS
    if path is not None:
        with contextlib.suppress(OSError):  # the current folder may be gone
            path = path.absolute()
    found: list[Item] = []
    at = 0
    with contextlib.ExitStack() as stack:
        scratch = None
        # Here and not in the child, which may be killed. Without a place for it, the checks that want one say so.
        with contextlib.suppress(OSError):
            corner = tempfile.TemporaryDirectory(prefix="streamd-doctor-", ignore_cleanup_errors=True)
            scratch = stack.enter_context(corner)
        while at < len(checks):
            order = {
                "table": table,
                "first": at,
                "path": None if path is None else str(path),
                "scratch": scratch,
                "found": msgspec.to_builtins(found),
            }
            attempt = _Attempt(order, checks, begun)
            for item in attempt.items():
                found.append(item)
                yield item
            at = attempt.next


def main() -> None:
    """The child."""
    sys.excepthook = _tell_briefly
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what crashes here leaves no file either
    child.begin()
    order = json.load(sys.stdin)
    case = Case(
        dict(os.environ),  # it is handed to every check, and names credentials and caches
        Path(order["path"]) if order["path"] else None,
        Path(order["scratch"]) if order["scratch"] else None,
    )
    if order["scratch"]:
        # Where libraries keep what nobody asked for.
        os.environ["XDG_CACHE_HOME"] = order["scratch"]
    case.found = {item.name: item for item in msgspec.convert(order["found"], list[Item])}
    checks: Sequence[Check] = import_module(order["table"]).CHECKS
    for number, check in enumerate(checks[order["first"] :], order["first"]):
        if check.with_config and not case.is_ok("configuration"):
            continue
        child.answer(begun=number, needed=check.needed(case))
        for item in check.find(case):
            case.found[item.name] = item
            child.answer(item=msgspec.to_builtins(item))
    child.answer(done=True)
    # Not the usual way out: a driver's library that crashes while it is unloaded has nothing more to say.
    os._exit(0)


@dataclass(slots=True)
class _Attempt:
    """One child. `next`: after `items`, the row at which another one is to begin."""

    order: dict[str, Any]
    checks: Sequence[Check]
    begun: Callable[[Check], None]
    next: int = 0
    _row: int = -1
    _needed: bool = False
    _chatter: str = ""
    _deadline: Deadline = field(default_factory=lambda: Deadline(_START_S))

    def items(self) -> Iterator[Item]:
        """What the child finds, and how it ended if that was not as it should."""
        self.next = len(self.checks)
        try:
            process = child.start(_CHILD)
        except OSError as error:
            yield _never_began(f"no process can be started: {error.strerror or error}")
            return
        with _ended_at_last(process):
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(self.order).encode())
            for line in self._lines(process):
                answer = child.answer_in(line)
                if answer is None:
                    self._chatter = line.decode(errors="replace").strip() or self._chatter
                elif "begun" in answer:
                    self._begin(answer["begun"], answer["needed"])
                elif "item" in answer:
                    item = msgspec.convert(answer["item"], Item)
                    yield msgspec.structs.replace(item, found=utf8(item.found), fix=utf8(item.fix))
                else:
                    return
            yield self._end(process)

    def _begin(self, row: int, needed: bool) -> None:
        check = self.checks[row]
        self._row, self._needed, self._chatter = row, needed, ""
        self._deadline = Deadline(check.limit_s)
        self.begun(check)

    def _end(self, process: subprocess.Popen[bytes]) -> Item:
        """An item for the row at which the child has died, or did not come back."""
        if self._deadline.left_s() <= 0:
            limit_s = self.checks[self._row].limit_s if self._row >= 0 else _START_S
            why = f"no answer within {limit_s:g} s; given up"
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE_S)
            how = "" if process.returncode is None else f" {child.ended(process.returncode)}"
            why = f"the process that tried it ended{how}"
        if self._chatter:
            why += f": {printable(self._chatter)[:240]}"
        if self._row < 0:
            return _never_began(why)
        self.next = self._row + 1
        name = self.checks[self._row].name
        return Item(name=name, state="wrong", found=why, exit_code=1 if self._needed else 0)

    def _lines(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        """What the child writes, line by line; ends with it, or when the row's time has run out."""
        assert process.stdout is not None
        number, rest = process.stdout.fileno(), b""
        while (left_s := self._deadline.left_s()) > 0:
            if not select.select([number], [], [], left_s)[0]:
                return
            more = os.read(number, 1 << 16)
            if not more:
                yield rest
                return
            *lines, rest = (rest + more).split(b"\n")
            yield from lines


def _never_began(why: str) -> Item:
    return Item(name="checks", state="wrong", found=f"nothing could be checked: {why}", exit_code=1)


@contextlib.contextmanager
def _ended_at_last(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        # One that hangs inside the kernel goes when that lets it; nobody waits for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LEAVE_S)
        if process.stdout is not None:
            process.stdout.close()


def _tell_briefly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Kind and place of a fault of ours; not its text, which may quote what nobody should read."""
    *_, last = traceback.extract_tb(trace) or [None]
    place = f" in {Path(last.filename).name}, line {last.lineno}" if last else ""
    print(f"{kind.__name__}{place}", file=sys.stderr, flush=True)  # noqa: T201 - the parent reads it
