"""What may go wrong with the outputs of `streamd detect`, and with being stopped before it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.support.clips import Clip, make
from tests.support.command import fails, lines_of, run, run_inline, start
from tests.support.number_model import make_number_model, number_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "a.mp4", Clip(frames=5))
    make_number_model(tmp_path / "number.onnx")
    return tmp_path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "outputs",
    [
        ("--jsonl", "a.mp4"),
        ("--csv", "./a.mp4"),
        ("--video", "a.mp4"),
        ("--video", "."),  # would be called a.mp4
        ("--jsonl", "link.jsonl"),
        ("--jsonl", "number.onnx"),
        ("--jsonl", "o", "--csv", "o"),
        ("--jsonl", "o", "--video", "./o"),
    ],
)
def test_no_output_destroys_what_is_read_or_another_output(
    folder: Path, outputs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "link.jsonl").symlink_to("a.mp4")
    before = bytes_of(folder)
    fails(run_inline("detect", "a.mp4", "-m", "number.onnx", *outputs, "--force"), 2, "choose another name")
    assert bytes_of(folder) == before


def test_devices_may_be_named_twice(folder: Path) -> None:
    done = run_inline(
        *("detect", folder / "a.mp4", "-m", folder / "number.onnx", "--force"),
        *("--jsonl", "/dev/null", "--csv", "/dev/null"),
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_movies_of_a_folder_have_names_of_their_own(folder: Path, tmp_path: Path) -> None:
    inputs = folder / "in"
    inputs.mkdir()
    for name in ("a.mkv", "a.2.mkv", "a.mp4"):
        make(inputs / name, Clip(frames=3))
    movies = folder / "out"
    movies.mkdir()
    common = ("detect", inputs / "a.2.mkv", inputs / "a.mkv", inputs / "a.mp4", "-m", folder / "number.onnx")
    assert run_inline(*common, "--video", movies).returncode == 0
    assert len(list(movies.iterdir())) == 3
    # The last one is in the way: that is said before anything is done, not an hour later.
    (movies / "a.mp4").unlink()
    (movies / "a.2.mp4").unlink()
    fails(run_inline(*common, "--video", movies, "--jsonl", folder / "o.jsonl"), 2, "a.2.2.mp4", "--force")
    assert len(list(movies.iterdir())) == 1
    assert not (folder / "o.jsonl").exists()


def test_a_movie_may_have_a_colon_in_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = run_inline("detect", "a.mp4", "-m", "number.onnx", "--video", "12:30.mp4")
    assert (done.returncode, done.stderr) == (0, "")
    with av.open("file:12:30.mp4") as movie:
        assert len(list(movie.decode(video=0))) == 5


def test_a_picture_that_no_movie_holds_is_one_line(folder: Path) -> None:
    cv2.imwrite(str(folder / "wide.png"), np.zeros((4, 16400, 3), np.uint8))
    movie = folder / "o.mp4"
    done = run_inline("detect", folder / "wide.png", "-m", folder / "number.onnx", "--video", movie)
    fails(done, 1, "16400x4", "--video")
    assert not movie.exists()


def test_a_run_that_gives_nothing_leaves_no_empty_files_behind(folder: Path) -> None:
    (folder / "text.mp4").write_text("no video")
    movie = folder / "o.mp4"
    fails(run_inline("detect", folder / "text.mp4", "-m", folder / "number.onnx", "--video", movie), 1)
    assert not movie.exists()
    # Loads, and cannot run: the corrected command must not find its own outputs in the way.
    (folder / "bad.onnx").write_bytes((folder / "number.onnx").read_bytes()[:900])
    names = ("--jsonl", folder / "o.jsonl", "--csv", folder / "o.csv")
    fails(run_inline("detect", folder / "a.mp4", "-m", folder / "bad.onnx", *names), 2)
    fails(
        run_inline(
            "detect", folder / "a.mp4", "-m", folder / "number.onnx", *names, "--video", folder / "a.mp4"
        ),
        2,
    )
    assert not list(folder.glob("o.*"))


def test_a_name_that_is_no_utf8(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mkv")
    make(folder / "b.mkv", Clip(frames=3)).rename(folder / name)
    out, table = folder / "o.jsonl", folder / "o.csv"
    done = run_inline("detect", folder / name, "-m", folder / "number.onnx", "--jsonl", out, "--csv", table)
    assert (done.returncode, done.stderr) == (0, "")
    lines = lines_of(out)
    assert [number_of(line["objects"]) for line in lines[:-1]] == [0, 1, 2]
    assert {Path(line["source"]).name for line in lines} == {"caf\ufffd.mkv"}
    assert "caf\ufffd.mkv" in table.read_text()


@pytest.mark.long
def test_stdout_that_takes_nothing_is_one_line(folder: Path) -> None:
    common = ("detect", folder / "a.mp4", "-m", folder / "number.onnx")
    with open("/dev/full", "w") as full:
        for arguments in (common, ("inspect", folder / "number.onnx")):
            with start(*arguments, preexec_fn=lambda: os.dup2(full.fileno(), 1)) as process:
                assert process.wait(60) == 1
                assert process.stderr is not None
                (line,) = process.stderr.read().splitlines()
                assert line.startswith("streamd: stdout cannot be written")
    fails(run(*common, "--jsonl", "-", preexec_fn=lambda: os.close(1)), 1, "stdout is closed")


def test_a_movie_does_not_go_to_stdout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    fails(run_inline("detect", "a.mp4", "-m", "number.onnx", "--video", "-"), 2, "--video -")
    assert not Path("-").exists()


def test_passwords_that_cannot_be_had(folder: Path) -> None:
    common = ("detect", folder / "a.mp4", "-m", folder / "number.onnx", "--password-file", folder / "none")
    fails(run_inline(*common, "--username", "me"), 1, "No such file")
    fails(run_inline(*common), 2, "--username")


_SIGNAL_AT_IMPORT = """
import os, sys
from streamd.cli import main

module, number, *sys.argv[1:] = sys.argv[1:]

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, AtImport())
main()
"""


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("module", ["streamd.cli.offline", "onnxruntime.capi.onnxruntime_pybind11_state"])
def test_a_signal_before_the_run_begins(folder: Path, module: str, number: int, code: int) -> None:
    """While Python imports and ONNX Runtime loads, no loop looks at a flag."""
    words = ("detect", folder / "a.mp4", "-m", folder / "number.onnx", "--jsonl", folder / "o.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", _SIGNAL_AT_IMPORT, module, str(int(number)), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (code, "", "")
    assert not (folder / "o.jsonl").exists()
