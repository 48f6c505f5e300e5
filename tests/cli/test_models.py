"""`streamd models`, and models by name in every verb that takes one, as somebody types it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from streamd.models.catalogue import catalogue
from streamd.models.store import MIRROR
from tests.support import reference_data
from tests.support.command import fails, lines_of, run_inline, start
from tests.support.model_server import Answer, ModelServer

pytestmark = pytest.mark.slow

NANO = catalogue()["yolox-nano"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models: an empty one."""
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "streamd" / "models"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv(MIRROR, f"http://127.0.0.1:{port}")


@pytest.fixture
def released() -> Path:
    """The release file of yolox-nano."""
    where = reference_data.folder()
    if where is None:
        pytest.skip(f"{reference_data.VARIABLE} is not set")
    return where / "models" / "yolox_nano_release.onnx"


@pytest.fixture
def server(released: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(released.read_bytes()) as server:
        monkeypatch.setenv(MIRROR, server.url)
        yield server


def test_a_model_is_listed_fetched_found_and_listed_as_here(server: ModelServer, cache: Path) -> None:
    shown = run_inline("models", "list")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["name", *catalogue()]
    assert all(line.rstrip().endswith("no") for line in shown.stdout.splitlines()[1:])
    absent = run_inline("models", "path", "yolox-nano", "--json")
    line = fails(absent, 1, "yolox-nano is not here; run `streamd models pull yolox-nano`", NANO.address)
    assert f"copy it to {cache}/yolox-nano.onnx" in line
    assert not json.loads(absent.stdout)["here"]
    assert not cache.exists(), "looking makes nothing"

    pulled = run_inline("models", "pull", "yolox-nano", "yolox-nano")
    assert (pulled.returncode, pulled.stdout) == (0, f"{cache}/yolox-nano.onnx\n" * 2)
    assert pulled.stderr == f"streamd: fetching yolox-nano (3.7 MB) from {server.url}/yolox-nano.onnx\n"
    assert len(server.asked) == 1

    found = run_inline("models", "path", "yolox-nano")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{cache}/yolox-nano.onnx\n", "")
    rows = {row["name"]: row for row in json.loads(run_inline("models", "list", "--json").stdout)}
    assert list(rows) == list(catalogue())
    assert rows["yolox-nano"]["here"]
    assert rows["yolox-nano"]["path"] == str(cache / "yolox-nano.onnx")
    assert rows["yolox-nano"]["sha256"] == NANO.sha256
    assert not rows["yunet"]["here"]
    assert len(server.asked) == 1

    (cache / "yolox-nano.onnx").write_bytes(b"half")
    fails(
        run_inline("models", "path", "yolox-nano"),
        1,
        "yolox-nano.onnx has 4 bytes, not 3659407",
        "models pull",
    )
    assert run_inline("models", "pull", "yolox-nano").returncode == 0
    assert run_inline("models", "path", "yolox-nano").returncode == 0


def test_names_are_checked_before_anything_is_fetched(server: ModelServer) -> None:
    said = "yolox-nan: no known model, did you mean 'yolox-nano'?; known are yolox-nano, yunet"
    fails(run_inline("models", "pull", "yolox-nano", "yolox-nan"), 2, said)
    fails(run_inline("models", "path", "yolox-nan"), 2, said)
    fails(run_inline("models", "path", "a\x1b[2J"), 2, "a�[2J: no known model;")
    fails(run_inline("models", "pull", "yolox-nano", "--from", "file:///m"), 2, "--from: must be http")
    assert server.asked == []


def test_the_mirror_of_the_option_goes_before_that_of_the_environment(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR, "http://nobody.invalid")
    assert run_inline("models", "pull", "yolox-nano", "--from", server.url).returncode == 0
    monkeypatch.setenv(MIRROR, "http://u:hush@h")
    line = fails(run_inline("models", "list"), 2, f"{MIRROR}: must hold no user")
    assert "hush" not in line


def test_a_name_gives_what_the_file_gives_with_the_right_options(
    server: ModelServer, released: Path, tmp_path: Path
) -> None:
    picture = released.parent.parent / "images" / "dog_bike_car.jpg"
    (tmp_path / "yolox-nano").write_text("a file of that name is no path")
    options = ("--head", "yolox", "--input", "yolox", "--labels", "coco")
    by_name = run_inline("detect", picture, "-m", "yolox-nano", "--jsonl", "name.jsonl")
    by_path = run_inline("detect", picture, "-m", released, *options, "--jsonl", "path.jsonl")
    assert (by_name.returncode, by_path.returncode) == (0, 0), (by_name.stderr, by_path.stderr)
    one, other = lines_of(Path("name.jsonl")), lines_of(Path("path.jsonl"))
    assert one[0].pop("model") == f"yolox-nano@{NANO.sha256[:8]}"
    assert other[0].pop("model") == f"yolox_nano_release@{NANO.sha256[:8]}"
    assert one == other
    assert {found["class"] for found in one[0]["objects"]} >= {"dog", "bicycle"}
    shown = run_inline("inspect", "yolox-nano")
    assert "head      yolox (known model yolox-nano)" in shown.stdout
    assert "known: known model yolox-nano" in shown.stdout
    assert len(server.asked) == 1


VERBS = (
    ("detect", "x.mp4", "-m", "yolox-nano"),
    ("inspect", "yolox-nano"),
    ("bench", "-m", "yolox-nano"),
    ("build", "-m", "yolox-nano"),
    ("models", "pull", "yolox-nano"),
    ("bench", "-c", "c.yaml"),
    ("build", "-c", "c.yaml"),
    ("run", "-c", "c.yaml"),
)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_fetches_and_without_a_network_says_what_to_do(
    words: tuple[str, ...], offline: None, cache: Path
) -> None:
    Path("x.mp4").touch()
    config = {"model": {"path": "yolox-nano"}, "streams": {"a": {"url": "test:"}}}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    result = run_inline(*words)
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        f"streamd: yolox-nano cannot be fetched from {os.environ[MIRROR]}/yolox-nano.onnx: "
    )
    assert "Connection refused" in last
    assert last.endswith(f"fetch {NANO.address} on another machine and copy it to {cache}/yolox-nano.onnx")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", VERBS[:4], ids=" ".join)
def test_what_is_neither_name_nor_file_ends_with_2(words: tuple[str, ...]) -> None:
    Path("x.mp4").touch()
    wrong = [word.replace("yolox-nano", "yolox-nan") for word in words]
    fails(run_inline(*wrong), 2, "no known model, did you mean 'yolox-nano'?", "`streamd models list`")
    missing = [word.replace("yolox-nano", "./yolox-nano") for word in words]
    fails(run_inline(*missing), 1, "yolox-nano: no such model file")


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_what_came_before_a_signal_is_kept(
    number: signal.Signals, code: int, server: ModelServer, cache: Path
) -> None:
    server.answers = [Answer(hold_after=1_000_000)]
    with start("models", "pull", "yolox-nano") as process:
        assert server.held.wait(60)
        part = cache / "yolox-nano.onnx.part"
        while part.stat().st_size < 1_000_000:
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    assert part.stat().st_size == 1_000_000
    assert run_inline("models", "pull", "yolox-nano").returncode == 0
    assert server.ranges == [None, "bytes=1000000-"]
    assert not part.exists()


def test_on_a_terminal_a_bar_shows_how_far_it_is(server: ModelServer) -> None:
    server.answers = [Answer(hold_after=1_800_000)]
    ours, theirs = pty.openpty()
    shown = b""
    command = [sys.executable, "-m", "streamd", "models", "pull", "yolox-nano"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as it:
        os.close(theirs)
        with contextlib.suppress(OSError):  # the terminal's end, as Linux tells it
            while chunk := os.read(ours, 4096):
                shown += chunk
                if b"1.8/3.7 MB" in shown:
                    server.go_on.set()
        out, _ = it.communicate(timeout=60)
    os.close(ours)
    assert it.returncode == 0
    assert b"fetching yolox-nano" in shown
    assert b"1.8/3.7 MB" in shown
    assert out.endswith(b"yolox-nano.onnx\n")
    assert b"streamd: fetching" not in shown
