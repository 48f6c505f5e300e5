"""`streamd detect` as people run it: a process, files, signals, full disks."""

from __future__ import annotations

import csv
import io
import json
import resource
import signal
import time
from pathlib import Path

import av
import pytest

from tests.support.clips import Clip, make
from tests.support.command import fails, lines_of, run, run_inline, start
from tests.support.number_model import make_number_model, number_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips and models that the tests only read."""
    folder = tmp_path_factory.mktemp("detect")
    make(folder / "a.mp4", Clip(frames=40))
    make(folder / "b.mkv", Clip(frames=10, first=100))
    make_number_model(folder / "number.onnx")
    make_number_model(folder / "slow.onnx", burn=60, batch=1)
    return folder


def numbers(lines: list[dict[str, object]]) -> list[int | None]:
    return [number_of(line["objects"]) for line in lines if "objects" in line]  # type: ignore[arg-type]


def test_every_frame_once_in_order_and_the_same_bytes_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    outputs = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.jsonl"
        done = run_inline("detect", "a.mp4", "b.mkv", "-m", "number.onnx", "--jsonl", out)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
    lines = lines_of(tmp_path / "one.jsonl")
    assert numbers(lines) == [*range(40), *range(100, 110)]
    assert [line["seq"] for line in lines if "seq" in line] == [*range(40), *range(10)]
    assert {line["source"] for line in lines} == {"a.mp4", "b.mkv"}
    assert lines[40] == {
        "schema": "streamd.end/1", "source": "a.mp4", "input": 0, "frames": 40, "complete": True,
    }  # fmt: skip
    assert lines[-1]["input"] == 1


@pytest.mark.long
def test_a_folder_a_glob_and_stdout(folder: Path, tmp_path: Path) -> None:
    done = run("detect", folder, "-m", folder / "number.onnx", "--jsonl", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers([json.loads(line) for line in done.stdout.splitlines()]) == [*range(40), *range(100, 110)]
    done = run("detect", folder / "*.mkv", "-m", folder / "number.onnx", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["source", "frame", "pts", "class_id", "class", "score", "x1", "y1", "x2", "y2"]
    by_frame: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_frame.setdefault(row["frame"], []).append(row)
    assert [number_of(objects) for objects in by_frame.values()] == list(range(100, 110))


def test_a_part_of_a_clip_keeps_the_numbers_of_the_whole(folder: Path, tmp_path: Path) -> None:
    def part(*options: str) -> list[dict[str, object]]:
        out = tmp_path / "part.jsonl"
        run_inline(
            "detect", folder / "a.mp4", "-m", folder / "number.onnx", "--jsonl", out, "--force", *options
        )
        return lines_of(out)

    lines = part("--from", "0.4", "--to", "0.8")
    assert numbers(lines) == list(range(10, 20))
    assert [line.get("frame") for line in lines[:-1]] == list(range(10, 20))
    assert [line.get("seq") for line in lines[:-1]] == list(range(10))
    assert numbers(part("--every", "7")) == list(range(0, 40, 7))
    assert numbers(part("--max-frames", "3")) == [0, 1, 2]
    assert part("--max-frames", "3")[-1]["complete"] is True
    timed = part("--max-frames", "2", "--timings")
    assert timed[0].keys() >= {"stages_ms", "received_us", "clock", "dropped"}


def test_the_movie_shows_every_frame_with_its_time(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes.mp4"
    done = run_inline("detect", folder / "a.mp4", "-m", folder / "number.onnx", "--video", out)
    assert (done.returncode, done.stderr) == (0, "")
    with av.open(str(out)) as movie:
        times = [frame.time for frame in movie.decode(video=0)]
    assert times == pytest.approx([i / 25 for i in range(40)], abs=0.001)
    several = run_inline(
        "detect", folder / "a.mp4", folder / "b.mkv", "-m", folder / "number.onnx", "--video", tmp_path
    )
    assert several.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"boxes.mp4", "a.mp4", "b.mp4"}


def test_without_outputs_a_table_says_what_was_seen(folder: Path) -> None:
    done = run_inline("detect", folder / "b.mkv", "-m", folder / "number.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 frames" in done.stdout.replace("\n", " ")
    assert "bit6" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_lines_and_a_playable_movie(
    folder: Path, tmp_path: Path, number: int, code: int
) -> None:
    clip = make(tmp_path / "long.mp4", Clip(frames=250))
    out, movie = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    with start("detect", clip, "-m", folder / "slow.onnx", "--jsonl", out, "--video", movie) as process:
        deadline = time.monotonic() + 60
        while not (out.exists() and out.read_bytes().count(b"\n") >= 30):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stderr is not None
        assert process.stderr.read() == ""
    lines = lines_of(out)
    assert numbers(lines) == list(range(len(lines) - 1))
    assert lines[-1]["complete"] is False
    assert lines[-1]["reason"] == "operator"
    assert lines[-1]["frames"] == len(lines) - 1 < 250
    with av.open(str(movie)) as container:
        assert len(list(container.decode(video=0))) == len(lines) - 1


@pytest.mark.long
def test_a_kill_leaves_whole_lines_and_a_playable_movie(folder: Path, tmp_path: Path) -> None:
    clip = make(tmp_path / "long.mp4", Clip(frames=250))
    out, movie = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    with start("detect", clip, "-m", folder / "slow.onnx", "--jsonl", out, "--video", movie) as process:
        deadline = time.monotonic() + 60
        while not (out.exists() and out.read_bytes().count(b"\n") >= 90):
            assert time.monotonic() < deadline
        process.kill()
    assert numbers(lines_of(out)) == list(range(len(lines_of(out))))
    with av.open(str(movie)) as container:
        assert len(list(container.decode(video=0))) >= 25


def small_files() -> None:
    """In the child: a write beyond 6000 bytes fails, as on a full disk, after it wrote what fits."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["--jsonl", "--csv", "--video"])
def test_a_full_disk_is_one_line_and_what_is_written_stays_valid(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    arguments = ("detect", folder / "a.mp4", "-m", folder / "number.onnx", kind, out)
    done = run(*arguments, preexec_fn=small_files)
    fails(done, 1, str(out), "cannot be written any more")
    assert out.stat().st_size <= 6000
    if kind == "--jsonl":
        lines = lines_of(out)
        assert numbers(lines) == list(range(len(lines)))
        assert 0 < len(lines) < 40
    elif kind == "--csv":
        text = out.read_text()
        assert text.endswith("\n")
        assert {len(row) for row in csv.reader(io.StringIO(text))} == {10}


def test_a_device_that_is_full_is_one_line(folder: Path) -> None:
    done = run("detect", folder / "b.mkv", "-m", folder / "number.onnx", "--jsonl", "/dev/full", "--force")
    fails(done, 1, "/dev/full", "No space left")


@pytest.mark.long
def test_an_input_that_breaks_off_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "b.mkv").read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "o.jsonl"
    done = run(
        "detect",
        cut,
        tmp_path / "missing.mp4",
        folder / "b.mkv",
        "-m",
        folder / "number.onnx",
        "--jsonl",
        out,
    )
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert "cut.mkv" in first
    assert "frame" in first
    assert "missing.mp4" in second
    ends = [line for line in lines_of(out) if "complete" in line]
    assert [end["complete"] for end in ends] == [False, False, True]
    assert ends[1]["reason"] == "not_found"
    assert ends[2]["frames"] == 10


class TestBadInput:
    def test_no_model(self, folder: Path) -> None:
        fails(run_inline("detect", folder / "a.mp4"), 2, "-m")

    def test_missing_model(self, folder: Path) -> None:
        fails(run_inline("detect", folder / "a.mp4", "-m", "gone.onnx"), 1, "gone.onnx")

    def test_model_that_is_none(self, folder: Path, tmp_path: Path) -> None:
        bad = tmp_path / "m.onnx"
        for content, word in (
            (b"", "empty"),
            (b"hello", "m.onnx"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
            ((folder / "number.onnx").read_bytes()[:900], "m.onnx"),
        ):
            bad.write_bytes(content)
            fails(run_inline("detect", folder / "a.mp4", "-m", bad), 2, word)

    def test_empty_missing_and_foreign_inputs(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        (tmp_path / "text.mp4").write_text("no video at all\n" * 50)
        for name in ("empty.mp4", "text.mp4", "none.mp4"):
            fails(run_inline("detect", tmp_path / name, "-m", folder / "number.onnx"), 1, name)

    def test_glob_that_finds_nothing(self, folder: Path, tmp_path: Path) -> None:
        result = run_inline("detect", tmp_path / "*.mp4", "-m", folder / "number.onnx")
        assert result.returncode in (1, 2)
        assert len(result.stderr.splitlines()) == 1

    def test_unknown_head_input_class_provider(self, folder: Path) -> None:
        common = ("detect", folder / "a.mp4", "-m", folder / "number.onnx")
        fails(run_inline(*common, "--head", "yolxo"), 2, "yolox")
        fails(run_inline(*common, "--input", "yolxo"), 2, "yolox")
        fails(run_inline(*common, "--classes", "bitt3"), 2, "bit3")
        fails(run_inline(*common, "--provider", "gpu"), 2, "cuda")
        fails(run_inline(*common, "--confidence", "1.5"), 2, "0 to 1")
        fails(run_inline(*common, "--size", "big"), 2, "--size")
        fails(run_inline(*common, "--from", "3", "--to", "2"), 2, "--from")

    def test_provider_that_does_not_run_inline(self, folder: Path) -> None:
        try:
            import ctypes

            ctypes.CDLL("libcuda.so.1")
        except OSError:
            result = run_inline(
                "detect", folder / "a.mp4", "-m", folder / "number.onnx", "--provider", "cuda"
            )
            fails(result, 1, "cuda")

    def test_labels_that_do_not_fit(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "labels.txt").write_text("one\ntwo\n")
        common = ("detect", folder / "a.mp4", "-m", folder / "number.onnx")
        fails(run_inline(*common, "--labels", tmp_path / "labels.txt"), 2, "2", "17")
        fails(run_inline(*common, "--labels", tmp_path / "none.txt"), 1, "none.txt")

    def test_outputs(self, folder: Path, tmp_path: Path) -> None:
        common = ("detect", folder / "b.mkv", "-m", folder / "number.onnx")
        (tmp_path / "there.jsonl").write_text("precious")
        (tmp_path / "there.mp4").write_text("precious")
        fails(run_inline(*common, "--jsonl", tmp_path / "there.jsonl"), 2, "--force")
        fails(run_inline(*common, "--video", tmp_path / "there.mp4"), 2, "--force")
        assert (tmp_path / "there.jsonl").read_text() == "precious"
        assert (tmp_path / "there.mp4").read_text() == "precious"
        fails(run_inline(*common, "--jsonl", tmp_path / "no" / "o.jsonl"), 1, "does not exist")
        fails(run_inline(*common, "--video", tmp_path / "no" / "o.mp4"), 1, "does not exist")
        fails(run_inline(*common, "--csv", tmp_path), 1, "is a folder")
        fails(run_inline(*common, "--jsonl", "-", "--csv", "-"), 2, "stdout")
        two = ("detect", folder / "a.mp4", folder / "b.mkv", "-m", folder / "number.onnx")
        fails(run_inline(*two, "--video", tmp_path / "one.mp4"), 2, "folder")

    def test_credentials_in_a_url(self, folder: Path) -> None:
        result = run_inline("detect", "rtsp://me:secret@127.0.0.1:9/x", "-m", folder / "number.onnx")
        line = fails(result, 2, "--username")
        assert "secret" not in line
