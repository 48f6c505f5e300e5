"""What people name becomes a list of sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.core.errors import MissingFileError
from streamd.sources.inputs import expand


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.mp4",
        "a.JPG",
        "notes.txt",
        ".hidden.mp4",
        "sub/c.mkv",
        ".git/d.mp4",
        "a?b.mp4",
        "[x].mp4",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_stands_for_its_videos_and_pictures_sorted(folder: Path) -> None:
    assert expand(["in"]) == ["in/[x].mp4", "in/a.JPG", "in/a?b.mp4", "in/b.mp4", "in/sub/c.mkv"]
    assert expand([f"file:{folder}/in/sub"]) == [f"{folder}/in/sub/c.mkv"]


def test_order_and_repetition_are_kept_and_addresses_untouched() -> None:
    given = [
        "rtsp://host/a?b=[c]*",
        "missing.mp4",
        "http://host/*.mp4",
        "missing.mp4",
        "/dev/video0",
        "v4l2:/dev/video1",
    ]
    assert expand(given) == given


def test_globs_follow_the_shell_and_never_win_over_a_file(folder: Path) -> None:
    assert expand(["in/a?b.mp4", "in/[x].mp4"]) == ["in/a?b.mp4", "in/[x].mp4"]
    assert expand(["in/*.mp4"]) == ["in/[x].mp4", "in/a?b.mp4", "in/b.mp4"]
    assert expand(["in/**/*.mkv"]) == ["in/sub/c.mkv"]
    assert expand(["i?"]) == expand(["in"])


def test_what_holds_nothing_is_refused_in_one_line(folder: Path) -> None:
    (folder / "empty").mkdir()
    for argument in ("*.nothing", "empty"):
        with pytest.raises(MissingFileError, match=r"^[^\n]+: no"):
            expand([argument])


def test_a_file_whose_name_looks_like_an_address_stays_a_file(folder: Path) -> None:
    (folder / "odd").mkdir()
    (folder / "odd" / "file:x.mp4").touch()
    assert expand(["odd"]) == ["odd/file:x.mp4"]
    (folder / "v4l2:y.mp4").touch()
    assert expand(["v*.mp4"]) == ["file:v4l2:y.mp4"]
