"""A table of checks that end in every way in which one can."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Check, Item


def _good(case: Case) -> Iterator[Item]:
    yield Item(name="good", state="ok", found="")


def _hanging(case: Case) -> Iterator[Item]:
    assert case.scratch is not None
    (case.scratch / "half.engine").write_bytes(b"half")
    yield Item(name="told before", state="ok", found=str(case.scratch))
    time.sleep(600)


def _crashing(case: Case) -> Iterator[Item]:
    os.write(2, b"a driver's last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)
    yield from ()


def _raising(case: Case) -> Iterator[Item]:
    yield from ()
    raise ValueError("hunter2")


def _silent(case: Case) -> Iterator[Item]:
    yield from ()


def _last(case: Case) -> Iterator[Item]:
    os.write(1, b"chatter without an end")
    yield Item(name="last", state="ok", found=" ".join(case.found))


CHECKS = (
    Check("good", _good),
    Check("silent", _silent),
    Check("hanging", _hanging, 0.5, needed=lambda case: True),
    Check("crashing", _crashing),
    Check("raising", _raising),
    Check("needs a configuration", _raising, with_config=True),
    Check("last", _last),
)
