"""The process that checks: whatever it does, there is a report, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamd.diagnosis import examination
from streamd.diagnosis.examination import examine
from streamd.diagnosis.finding import Item, report_of


def children() -> set[str]:
    """The processes that this one has started and that are still there."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.slow
def test_a_check_that_hangs_crashes_or_raises_is_one_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children()
    begun: list[str] = []
    items = list(examine(None, "tests.support.bad_checks", lambda check: begun.append(check.name)))
    assert begun == ["good", "silent", "hanging", "crashing", "raising", "last"]
    assert [(item.name, item.state, item.exit_code) for item in items] == [
        ("good", "ok", 0),
        ("told before", "ok", 0),
        ("hanging", "wrong", 1),
        ("crashing", "wrong", 0),
        ("raising", "wrong", 0),
        ("last", "ok", 0),
    ]
    _, told, hung, crashed, raised, last = items
    assert hung.found == "no answer within 0.5 s; given up"
    assert crashed.found == "the process that tried it ended by SIGSEGV: a driver's last words"
    assert raised.found.endswith("ended with code 1: ValueError in bad_checks.py, line 33")
    assert "hunter2" not in raised.found
    # What was found before a crash is known behind it.
    assert last.found == "good told before hanging crashing raising"
    assert Path(told.found).is_relative_to(tmp_path)
    assert not list(tmp_path.iterdir())
    assert children() == before


def test_giving_up_leaves_no_process_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children()
    found = examine(None, "tests.support.bad_checks")
    assert [next(found).name for _ in range(2)] == ["good", "told before"]
    assert children() > before
    found.close()
    assert children() == before
    assert not list(tmp_path.iterdir())


def test_a_process_that_cannot_begin_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/none/python")
    (item,) = examine(None, "tests.support.bad_checks")
    assert (item.name, item.exit_code) == ("checks", 1)
    assert "No such file" in item.found
    monkeypatch.undo()
    monkeypatch.setattr(examination, "_CHILD", "raise SystemExit('no module')")
    (item,) = examine(None, "tests.support.bad_checks")
    assert item.found == "nothing could be checked: the process that tried it ended with code 1: no module"


def test_the_worst_item_is_the_exit_code() -> None:
    items = [Item(name=str(code), state="ok", found="", exit_code=code) for code in (0, 2, 1)]
    assert report_of("1", None, items).exit_code == 2
    assert report_of("1", None, []).exit_code == 0
