"""Known models are fetched once, whole and right, whatever lies there already and whoever else fetches them."""

from __future__ import annotations

import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from streamd.core.errors import FetchError, OutputError, UsageError
from streamd.models.download import Watch
from streamd.models.pulling import pull
from streamd.models.store import MIRROR, ModelStore, checked_mirror, store_of
from tests.support.fetched import CONTENT, OTHER, made, names, store
from tests.support.model_server import Answer, ModelServer

pytestmark = pytest.mark.usefixtures("no_proxy")


def test_a_model_is_fetched_once_and_is_the_one_that_is_listed(tmp_path: Path) -> None:
    held: list[int] = []
    with ModelServer(CONTENT) as server:
        models = store(tmp_path, server)
        assert models.flaw(made()) == ""
        path = pull(models, made(), Watch(progress=held.append))
        assert pull(models, made(), Watch()) == path
    assert path.read_bytes() == CONTENT
    assert server.asked == [("/models/made.onnx", None)]
    assert names(models) == ["made.lock", "made.onnx"]
    assert held == sorted(held)
    assert held[-1] == len(CONTENT)


def test_what_came_is_kept_for_the_next_time(tmp_path: Path) -> None:
    with ModelServer(CONTENT, Answer(cut_after=120_000), Answer(cut_after=0)) as server:
        models = store(tmp_path, server)
        with pytest.raises(FetchError, match="after 120000 of 300000 bytes") as caught:
            pull(models, made(), Watch())
        assert caught.value.exit_code == 1
        assert f"copy it to {models.path(made())}" in str(caught.value)
        assert models.flaw(made()) == ""
        assert pull(models, made(), Watch()).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=120000-", "bytes=120000-"]


def test_other_bytes_are_removed_and_both_sums_told(tmp_path: Path) -> None:
    with ModelServer(OTHER) as server:
        models = store(tmp_path, server)
        with pytest.raises(FetchError) as caught:
            pull(models, made(), Watch())
    assert caught.value.exit_code == 1
    for told in (made().sha256, made(OTHER).sha256, "tampered with", f"{server.url}/made.onnx"):
        assert told in str(caught.value)
    assert names(models) == ["made.lock"]
    assert len(server.asked) == 1


def test_a_kept_part_that_does_not_fit_is_begun_anew(tmp_path: Path) -> None:
    told: list[str] = []
    with ModelServer(CONTENT) as server:
        models = store(tmp_path, server)
        models.folder.mkdir()
        for part in (OTHER[:1000], OTHER, OTHER + b"more"):
            (models.folder / "made.onnx.part").write_bytes(part)
            assert pull(models, made(), Watch(told.append)).read_bytes() == CONTENT
            models.path(made()).unlink()
    # One that is too long is no part of it; one that is long enough needs no asking before it is found out.
    assert server.ranges == ["bytes=1000-", None, None, None]
    assert told == ["made: what was kept of an earlier try does not fit; begun anew"] * 2


def test_a_file_that_somebody_copied_counts_if_its_bytes_are_right(tmp_path: Path) -> None:
    told: list[str] = []
    with ModelServer(CONTENT) as server:
        models = store(tmp_path, server)
        models.folder.mkdir()
        models.path(made()).write_bytes(CONTENT)
        pull(models, made(), Watch())
        assert server.asked == []
        for wrong in (b"version https://git-lfs.github.com/spec/v1\n", OTHER):
            models.path(made()).write_bytes(wrong)
            assert models.flaw(made())
            assert pull(models, made(), Watch(told.append)).read_bytes() == CONTENT
        assert len(server.asked) == 2
    assert "has 43 bytes, not 300000: it is fetched anew" in told[0]
    assert f"has the SHA-256 {made(OTHER).sha256}, not {made().sha256}" in told[1]


def test_a_pipe_with_the_name_of_a_model_is_not_waited_for(tmp_path: Path) -> None:
    models = ModelStore(tmp_path)
    os.mkfifo(models.path(made()))
    assert models.flaw(made()) == "is no file"


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond it, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_of_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    with ModelServer(CONTENT) as server:
        models = store(tmp_path, server)
        with longest_file(100_000), pytest.raises(OutputError) as caught:
            pull(models, made(), Watch())
        assert caught.value.exit_code == 1
        assert f"{models.folder}: File too large; nothing was kept, make room for 300000 bytes" in str(
            caught.value
        )
        assert names(models) == ["made.lock"]
        assert pull(models, made(), Watch()).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_told_of_and_its_models_are_used() -> None:
    # Below no folder of this user's own: root, who may write anywhere, becomes somebody else for it.
    with tempfile.TemporaryDirectory() as name, ModelServer(CONTENT) as server:
        models = store(Path(name), server)
        pull(models, made(), Watch())
        (models.folder / "made.lock").unlink()
        Path(name).chmod(0o755)
        models.folder.chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            assert pull(models, made(), Watch()).read_bytes() == CONTENT
            with pytest.raises(
                OutputError, match=r"cannot be written: Permission denied; run `streamd models pull"
            ):
                pull(models, replace(made(), name="another"), Watch())
        finally:
            if root:
                os.seteuid(0)
            models.folder.chmod(0o755)
        assert names(models) == ["made.onnx"]
        with pytest.raises(OutputError, match="cannot be written: Not a directory"):
            pull(ModelStore(models.path(made()) / "x", server.url), made(), Watch())


def test_a_part_or_lock_that_leads_elsewhere_is_not_written(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    with ModelServer(CONTENT) as server:
        models = store(tmp_path, server)
        models.folder.mkdir()
        for name in ("made.lock", "made.onnx.part"):
            (models.folder / name).symlink_to(precious)
            with pytest.raises(OutputError, match="cannot be written"):
                pull(models, made(), Watch())
            (models.folder / name).unlink()
    assert precious.read_text() == "mine"


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    told = threading.Event()
    lines: list[str] = []
    found: list[Path] = []

    def second() -> None:
        def tell(line: str) -> None:
            lines.append(line)
            told.set()

        found.append(pull(models, made(), Watch(tell)))

    with ModelServer(CONTENT, Answer(hold_after=1000)) as server:
        models = store(tmp_path, server)
        threads = [threading.Thread(target=lambda: found.append(pull(models, made(), Watch())))]
        threads[0].start()
        assert server.held.wait(30)
        assert models.flaw(made()) == "", "half a file has no name"
        threads.append(threading.Thread(target=second))
        threads[1].start()
        assert told.wait(30)
        server.go_on.set()
        for thread in threads:
            thread.join(30)
        assert found == [models.path(made())] * 2
        assert found[0].read_bytes() == CONTENT
        assert len(server.asked) == 1
    assert lines == ["another process fetches made; waiting for it"]


def test_a_stop_ends_the_waiting_and_the_fetching(tmp_path: Path) -> None:
    stop = threading.Event()
    with ModelServer(CONTENT, Answer(hold_after=1000)) as server:
        models = store(tmp_path, server)
        failed: list[FetchError] = []

        def fetch() -> None:
            try:
                pull(models, made(), Watch(stop=stop))
            except FetchError as error:
                failed.append(error)

        threads = [threading.Thread(target=fetch)]
        threads[0].start()
        assert server.held.wait(30)
        threads.append(threading.Thread(target=fetch))
        threads[1].start()
        stop.set()
        server.go_on.set()
        for thread in threads:
            thread.join(30)
    assert sorted(str(error) for error in failed)[0].startswith("made cannot be fetched")
    assert len(failed) == 2
    assert "stopped" in str(failed[0])
    assert "stopped" in str(failed[1])


def test_the_store_is_where_the_environment_says(tmp_path: Path) -> None:
    assert store_of({"CACHE_DIRECTORY": "/c", MIRROR: ""}) == ModelStore(Path("/c/models"))
    mirrored = store_of({"XDG_CACHE_HOME": "/x", MIRROR: "http://h:8/m/"})
    assert mirrored.address(made()) == "http://h:8/m/made.onnx"
    assert mirrored.path(made()) == Path("/x/streamd/models/made.onnx")


NO_ADDRESSES = """
    h/m file:///m ftp://h/m http:///m http://h:x/ http://h:99999/ http://u:hush@h/m https://h/m?k=hush https://h/#hush
    https://[::1 http://h/ü
"""


@pytest.mark.parametrize("address", [*NO_ADDRESSES.split(), "", "http://h/hush\n", "http://h/a b"])
def test_a_mirror_that_is_no_address_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(UsageError, match=r"^X: must ") as caught:
        checked_mirror(address, "X")
    assert "hush" not in str(caught.value)
