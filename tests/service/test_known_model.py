"""A configuration that names a known model: what check says of it, what run and a reload do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd.models.catalogue import catalogue
from streamd.models.store import MIRROR
from tests.support import reference_data
from tests.support.bench import Bench
from tests.support.command import run_inline
from tests.support.model_server import Answer, ModelServer
from tests.support.notify_socket import NotifySocket
from tests.support.number_model import make_number_model

pytestmark = pytest.mark.slow

NANO = catalogue()["yolox-nano"]
STREAM = {"url": "test:?rate=10&size=128x64", "max_age_ms": 10_000}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "models"


@pytest.fixture
def released() -> bytes:
    where = reference_data.folder()
    if where is None:
        pytest.skip(f"{reference_data.VARIABLE} is not set")
    return (where / "models" / "yolox_nano_release.onnx").read_bytes()


@pytest.fixture
def server(released: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(released) as server:
        monkeypatch.setenv(MIRROR, server.url)
        yield server


def checked(tmp_path: Path, model: str, *more: str):
    file = tmp_path / "c.yaml"
    file.write_text(f"model: {{{model}}}\nstreams:\n  a: {{url: 'test:'}}\n" + "".join(more))
    return run_inline("check", "-c", file)


def test_check_fetches_nothing_and_says_what_run_would_do(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(b"") as server:
        monkeypatch.setenv(MIRROR, server.url)
        result = checked(tmp_path, "path: yolox-nano")
        assert server.asked == []
    assert (result.returncode, result.stderr) == (0, "")
    assert not cache.exists()
    assert "\n  path: yolox-nano\n" in result.stdout
    assert "# model yolox-nano: head auto, on tensorrt" in result.stdout
    assert (
        f"# model yolox-nano is not here: `run` fetches 3659407 bytes from {server.url}/yolox-nano.onnx to "
        f"{cache}/yolox-nano.onnx, and ends with 1 where it cannot\n" in result.stdout
    )
    # The list knows the classes of a model that is not here.
    wrong = checked(tmp_path, "path: yolox-nano, classes: [persn]")
    assert wrong.returncode == 2
    assert "streams.a.classes: the model has no class 'persn', did you mean 'person'?" in wrong.stderr
    assert checked(tmp_path, "path: yolox-nano, classes: [x], labels: labels.txt").returncode == 1
    (tmp_path / "labels.txt").write_text("x\n")
    assert checked(tmp_path, "path: yolox-nano, classes: [x], labels: labels.txt").returncode == 0


def test_check_reads_the_model_that_is_here(tmp_path: Path, cache: Path, released: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / "yolox-nano.onnx").write_bytes(released)
    result = checked(tmp_path, "path: yolox-nano, classes: [person]")
    assert result.returncode == 0
    assert f"# model yolox-nano is here: {cache}/yolox-nano.onnx\n" in result.stdout
    assert checked(tmp_path, "path: yolox-nano, classes: [persn]").returncode == 2
    (cache / "yolox-nano.onnx").write_bytes(b"x")
    assert f"is not here ({cache}/yolox-nano.onnx has 1 bytes, not 3659407): `run` fetches" in (
        checked(tmp_path, "path: yolox-nano").stdout
    )


def test_what_is_no_name_and_no_path_is_a_fault_of_the_file(tmp_path: Path) -> None:
    result = checked(tmp_path, "path: yolox-nan")
    assert result.returncode == 2
    said = "model.path: no such file, and no known model, did you mean 'yolox-nano'?"
    assert result.stderr.startswith(f"{tmp_path}/c.yaml:1: {said}")
    assert checked(tmp_path, "path: ./yolox-nan").returncode == 1
    assert checked(tmp_path, "path: yolox-nan.onnx").returncode == 1
    make_number_model(tmp_path / "mine")
    assert checked(tmp_path, "path: mine").returncode == 0


@pytest.mark.long
def test_a_named_model_is_fetched_at_the_first_start_and_serves(
    tmp_path: Path, cache: Path, server: ModelServer
) -> None:
    server.answers = [Answer(cut_after=1_000_000)]
    with (
        NotifySocket() as systemd,
        Bench(
            tmp_path / "c.yaml", Path("yolox-nano"), {"a": STREAM}, {"NOTIFY_SOCKET": systemd.address}
        ) as bench,
    ):
        before = [told.fields for told in systemd.told[: systemd.told.index(systemd.wait_for("READY"))]]
        assert any(told.get("STATUS", "").startswith("fetching yolox-nano") for told in before)
        assert any("EXTEND_TIMEOUT_USEC" in told for told in before)
        assert bench.more("a", 2)
        assert bench.results("a")[-1]["model"] == f"yolox-nano@{NANO.sha256[:8]}"
        log = "\n".join(bench.daemon.log)
        assert f"yolox-nano: fetching 3659407 bytes from {server.url}/yolox-nano.onnx" in log
        assert f"kept in {cache}/yolox-nano.onnx" in log
        assert server.ranges == [None, "bytes=1000000-"]
        # The same file again: nothing is made anew, and nothing is fetched.
        assert bench.reload()["detail"] == "no stream changed"
        assert bench.daemon_events("model_building") == []
        assert bench.daemon.stop() == 0


@pytest.mark.long
@pytest.mark.slow
def test_a_reload_fetches_beside_the_model_that_serves(tmp_path: Path, server: ModelServer) -> None:
    model = make_number_model(tmp_path / "number.onnx")
    with Bench(tmp_path / "c.yaml", model, {"a": STREAM}) as bench:
        server.answers = [Answer(status=503)]
        bench.change(model={"path": "yolox-nano"})
        assert "yolox-nano cannot be fetched" in bench.reload("reload_refused")["detail"]
        assert bench.more("a", 2)
        server.answers = [Answer(hold_after=1_000_000)]
        bench.daemon.process.send_signal(1)
        assert server.held.wait(60)
        assert bench.more("a", 2), "what runs serves on"
        assert "number@" in bench.results("a")[-1]["model"]
        server.go_on.set()
        assert bench.until(lambda: bool(bench.daemon_events("reloaded"))), bench.daemon.log
        assert bench.until(lambda: bench.results("a")[-1]["model"].startswith("yolox-nano@"))
        # A stop while something is fetched does not wait for it.
        (tmp_path / "cache" / "models" / "yolox-nano.onnx").unlink()
        server.held.clear()
        server.go_on.clear()
        server.answers = [Answer(hold_after=1_000_000)]
        bench.change(model={"path": "yolox-nano", "head": "yolox"})
        bench.daemon.process.send_signal(1)
        assert server.held.wait(60)
        assert bench.daemon.stop() == 0
