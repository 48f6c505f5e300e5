"""The log's lines where they cannot be written: counted, told of, and never waited for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd.service import log_output
from streamd.service.log_output import BURST, LogOutput
from tests.support.daemon import write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader

LINE = "x" * 999 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for number in (reader, writer):
        with contextlib.suppress(OSError):  # the test may have closed it
            os.close(number)


def test_a_reader_that_stands_still_is_not_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = LogOutput(writer)
    started = time.monotonic()
    for _ in range(500):
        output.write(LINE, level=logging.ERROR)
    # The first that found no room waited 0.1 s for it; the 400 after it did not.
    assert time.monotonic() - started < 20
    lost = output.unwritable
    assert lost > 400
    trouble = output.trouble()
    assert trouble is not None
    assert f"{lost} lines" in trouble
    assert "stands still" in trouble
    assert output.trouble() is None
    # It reads again: what comes is whole lines.
    text = os.read(reader, 1 << 20)
    output.write("again\n", level=logging.INFO)
    assert output.unwritable == lost
    text += os.read(reader, 1 << 20)
    assert text == LINE.encode() * (500 - lost) + b"again\n"


def test_a_line_longer_than_a_pipe_takes_at_once_comes_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LogOutput(writer).write("y" * 30_000 + "\n", level=logging.ERROR)
    assert os.read(reader, 1 << 20) == b"y" * 30_000 + b"\n"


def test_a_reader_that_is_gone_and_a_full_disk_are_named(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    gone = LogOutput(writer)
    gone.write(LINE, level=logging.INFO)
    assert "nobody reads it" in str(gone.trouble())
    with open("/dev/full", "wb", buffering=0) as full:
        output = LogOutput(full.fileno())
        output.write(LINE, level=logging.INFO)
        assert "1 lines could not be written (No space left on device)" in str(output.trouble())


def test_letters_that_are_no_text_do_not_stop_it(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LogOutput(writer).write("a\udcffb\n", level=logging.INFO)
    assert os.read(reader, 100) == b"a\\udcffb\n"


def test_a_flood_is_left_out_and_errors_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 10**18
    monkeypatch.setattr(log_output, "now_ns", lambda: now_ns)
    with (tmp_path / "log").open("wb", buffering=0) as file:
        output = LogOutput(file.fileno())
        for _ in range(BURST + 50):
            output.write("warning\n", level=logging.WARNING)
        output.write("error\n", level=logging.ERROR)
        output.write("debug\n", level=logging.DEBUG)
        assert output.flood == 50
        assert output.left_out() == 0  # not while it goes on
        now_ns += 2 * 10**9
        assert output.left_out() == 50
        assert output.left_out() == 0
        for _ in range(50):
            output.write("later\n", level=logging.INFO)
        assert output.flood == 50 + 30
    lines = (tmp_path / "log").read_text().split()
    assert lines == ["warning"] * BURST + ["error", "debug"] + ["later"] * 20


@pytest.mark.long
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2>&- >&- <&-", "2> >(sleep 0)"])
def test_the_daemon_goes_on_without_its_log(tmp_path: Path, where: str) -> None:
    endpoint = f"ipc://{tmp_path}/bus"
    path = write_config(
        tmp_path / "c.yaml",
        make_number_model(tmp_path / "number.onnx"),
        {"a": {"url": "test:?rate=20&size=160x120"}},
        publish={"bind": endpoint},
    )
    command = f"exec {sys.executable} -m streamd run -c {path} {where}"
    with (
        subprocess.Popen(["bash", "-c", command], stdout=subprocess.DEVNULL) as daemon,
        Reader(endpoint) as reader,
    ):
        try:
            assert reader.wait(lambda _: len(reader.of("/a/results")) > 20, 60)
            if "&-" not in where:
                assert reader.wait(lambda _: bool(_failed(reader)), 20)
                assert "could not be written" in _failed(reader)[0]["detail"]
        finally:
            daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0


def _failed(reader: Reader) -> list[dict[str, str]]:
    return [m for m in reader.of("_daemon/events") if m["event"] == "output_failed"]


@pytest.mark.long
def test_the_exit_code_is_right_where_nothing_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("streams: [")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streamd", "run", "-c", str(tmp_path / "bad.yaml")], stderr=full
        )
    assert done.returncode == 2
