"""`streamd view`: pictures from a real endpoint into files."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamd.bus import wire
from streamd.bus.recording import end_line, head_line, message_line
from streamd.bus.replay import Pace
from streamd.core.errors import StreamdError
from streamd.core.picture import Pixels
from streamd.service.render import annotate, colour_of
from tests.support.command import fails, run, run_inline, start
from tests.support.playing import result, running, session

pytestmark = pytest.mark.slow

BOX = (20.0, 20.0, 60.0, 44.0)


def jpeg(width: int = 96, height: int = 64) -> bytes:
    _, file = cv2.imencode(".jpg", np.full((height, width, 3), 128, np.uint8))
    return bytes(file)


def header(stream: str = "gate", seq: int = 3, **changes: object) -> bytes:
    message = json.loads(result(seq))
    message.update(stream=stream, received_us=1_795_469_729_215_000, objects=[
        {"class_id": 1, "class": "person", "score": 0.9, "box": BOX}], **changes)  # fmt: skip
    return json.dumps(message).encode()


def pictures(*streams: str, body: bytes | None = None) -> bytes:
    lines = [
        message_line(
            20_000 * i,
            [f"streamd/{stream}/frames".encode(), header(stream, i), jpeg() if body is None else body],
        )
        for i, stream in enumerate(streams * 3)
    ]
    return head_line("tcp://x", 1) + b"".join(lines) + end_line(60_000 * len(streams), len(lines), 0)


def read(path: Path) -> Pixels:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture  # type: ignore[return-value]


def has_box(picture: Pixels) -> bool:
    """The left edge of the box is its colour, what is inside is as grey as before."""
    edge = picture[30, 20].astype(int)
    inside = picture[36, 40].astype(int)
    return bool(abs(edge - colour_of(1)).max() < 90 and abs(inside - 128).max() < 12)


@pytest.mark.long
def test_once_is_a_picture_of_each_stream(tmp_path: Path) -> None:
    with running(pictures("gate", "yard"), Pace(loop=True)) as bench:
        done = run_inline("view", bench.endpoint, "--once", "--out", tmp_path / "new" / "view")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "new" / "view").iterdir()} == {"gate.jpg", "yard.jpg"}
    assert len(done.stdout.splitlines()) == 2
    assert re.search(r"gate\.jpg  #\d+  64x48  1 person", done.stdout)
    assert has_box(read(tmp_path / "new" / "view" / "gate.jpg"))


def test_a_file_by_its_suffix_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gate.png"
    path.write_text("an older one")
    with running(pictures("gate", "yard"), Pace(loop=True)) as bench:
        done = run_inline("view", bench.endpoint, "--count", "3", "--stream", "gate", "--out", path)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(done.stdout.splitlines()) == 3
    assert [found.name for found in tmp_path.iterdir()] == ["gate.png"]


def test_each_picture_is_kept(tmp_path: Path) -> None:
    with running(pictures("gate"), Pace(loop=True)) as bench:
        run_inline("view", bench.endpoint, "--count", "3", "--keep", "--png", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"gate-20261123T213529.215Z-{seq:06d}.png" for seq in range(3)
    ]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "gate.jpg").mkdir()
    with running(pictures("gate"), Pace(loop=True)) as bench:
        fails(run_inline("view", bench.endpoint, "--out", tmp_path / "file" / "x"), 1, "cannot be made")
        fails(run_inline("view", bench.endpoint, "--out", tmp_path / "file"), 1, "cannot be made")
        fails(run_inline("view", bench.endpoint, "--out", tmp_path), 1, "gate.jpg cannot be written")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "gate.jpg"}


def test_a_full_disk_leaves_the_picture_before_it(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    (tmp_path / "gate.jpg").write_text("the one before")
    with running(pictures("gate"), Pace(loop=True)) as bench:
        limit = (resource.RLIMIT_FSIZE, (100, 100))
        done = run("view", bench.endpoint, "--out", tmp_path, preexec_fn=lambda: resource.setrlimit(*limit))
    fails(done, 1, "gate.jpg cannot be written", "File too large")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("gate.jpg", "the one before")]


def test_a_reader_of_the_lines_that_has_gone_is_no_failure(tmp_path: Path) -> None:
    with (
        running(pictures("gate"), Pace(loop=True)) as bench,
        start("view", bench.endpoint, "--out", tmp_path) as view,
    ):
        assert view.stdout is not None
        view.stdout.readline()
        view.stdout.close()
        assert view.wait(60) == 0
        assert view.stderr is not None
        assert view.stderr.read() == ""


@pytest.mark.parametrize("stream", ["../evil", "a/b", "..", "", "x" * 300, "\x1b[2J"])
def test_no_name_of_a_stream_leads_out_of_the_folder(tmp_path: Path, stream: str) -> None:
    line = message_line(0, [b"streamd/gate/frames", header(stream), jpeg()])
    with running(head_line("x", 1) + line, Pace()) as bench:
        done = run_inline("view", bench.endpoint, "--out", tmp_path / "view")
    fails(done, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["view"]
    assert not list((tmp_path / "view").iterdir())


def test_what_is_no_picture_is_told_of(tmp_path: Path) -> None:
    for body, word in ((b"", "no JPEG"), (b"\xff\xd8 rubbish", "no JPEG"), (jpeg()[:20], "no JPEG")):
        with running(pictures("gate", body=body), Pace(loop=True)) as bench:
            fails(run_inline("view", bench.endpoint, "--out", tmp_path), 1, word)
    with running(session(), Pace(loop=True)) as bench:
        fails(run_inline("view", bench.endpoint, "--out", tmp_path), 1, "publish.frames")
    newer = pictures("gate").replace(b"streamd.result/1", b"streamd.result/2")
    with running(newer, Pace(loop=True)) as bench:
        fails(run_inline("view", bench.endpoint, "--out", tmp_path), 1, "speaks streamd.result/2")


def test_what_view_refuses(tmp_path: Path) -> None:
    nobody = "tcp://127.0.0.1:1"
    fails(run_inline("view", nobody, "--once", "--count", "3", "--out", tmp_path), 2, "choose one")
    fails(run_inline("view", nobody, "--out", tmp_path / "a.jpg"), 2, "--stream")
    fails(run_inline("view", nobody, "--out", tmp_path / "a.jpg", "--stream", "a", "--keep"), 2, "--keep")
    fails(run_inline("view", nobody, "--out", tmp_path / "a.jpg", "--stream", "a", "--png"), 2, "--png")
    done = run_inline("view", nobody, "--out", tmp_path, "--timeout", "0.5")
    fails(done, 1, "no picture within 0.5 s", "publish.frames")


@pytest.mark.parametrize("verb", [("view", "--out"), ("top",)])
def test_once_waits_no_longer_than_a_script_can(
    verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamd.cli.options.ONCE_PATIENCE_S", 0.4)
    command, *out = verb
    done = run_inline(command, "tcp://127.0.0.1:1", "--once", *out, *([tmp_path] if out else []))
    fails(done, 1, "within 0.4 s")


def test_boxes_that_do_not_lie_in_the_picture_are_drawn_as_far_as_they_do() -> None:
    far = [wire.Object(10**15, "person", 0.5, (-1e308, -5.0, 1e308, 1e300), [(1e308, -1e308)])]
    file = annotate(jpeg(), far, ".png")
    assert cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR).shape == (64, 96, 3)
    with pytest.raises(StreamdError, match="no JPEG"):
        annotate(b"x", [], ".png")
