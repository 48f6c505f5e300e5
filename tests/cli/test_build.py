"""`streamd build` as a process of its own, where it needs one with the GPU of `tests.support.pretended_gpu`."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.bench import Bench
from tests.support.command import fails, run, start
from tests.support.daemon import write_config
from tests.support.gpu import needs_no_gpu
from tests.support.number_model import make_number_model
from tests.support.pretended_gpu import PretendedGpu

pytestmark = pytest.mark.long

TEST = {"a": {"url": "test:?rate=25&size=128x64"}}


@pytest.fixture
def card(tmp_path: Path) -> PretendedGpu:
    return PretendedGpu(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_number_model(tmp_path / "number.onnx")


def test_run_finds_what_was_built_ahead_of_time(tmp_path: Path, card: PretendedGpu, model: Path) -> None:
    config = write_config(tmp_path / "b.yaml", model, TEST, runtime=card.runtime)
    card.go()
    env = {**os.environ, **card.env}
    first, second = (run("build", "-c", config, env=env) for _ in range(2))
    (folder,) = card.engines()
    for done, said in ((first, "the engine built in "), (second, "the engine was there already")):
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"number@{line[7:15]}: {said}")
        assert line.endswith(f": {card.cache / folder}")
    assert "building the TensorRT engine of number.onnx" in first.stderr
    assert second.stderr == ""
    with Bench(tmp_path / "c.yaml", model, TEST, card.env, runtime=card.runtime) as bench:
        assert bench.until(lambda: bool(bench.results("a")))
        assert bench.daemon.stop() == 0
    assert {m["provider"] for m in bench.results("a")} == {"TensorrtExecutionProvider"}
    assert len(card.builds()) == 1


def test_detect_finds_what_was_built_for_a_model(tmp_path: Path, card: PretendedGpu, model: Path) -> None:
    card.go()
    env = {**os.environ, **card.env, "CACHE_DIRECTORY": str(tmp_path / "caches")}
    assert run("build", "-m", model, env=env).returncode == 0
    picture = "test:?rate=25&size=128x64&frames=2"
    done = run("detect", picture, "-m", model, "--max-frames", "2", "--jsonl", "-", env=env)
    assert '"provider":"TensorrtExecutionProvider"' in done.stdout, done.stderr
    assert len(card.builds()) == 1


@pytest.mark.parametrize("providers", [["cpu"], ["cuda", "cpu"]])
def test_without_tensorrt_there_is_nothing_to_build(
    tmp_path: Path, model: Path, providers: list[str]
) -> None:
    config = write_config(tmp_path / "c.yaml", model, TEST, runtime={"providers": providers})
    done = run("build", "-c", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"nothing to build: {', '.join(providers)} needs no engine\n"


@needs_no_gpu
def test_a_tensorrt_that_does_not_run_here_is_one_line_also_with_fallback(
    tmp_path: Path, model: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", model, TEST, runtime={"providers": ["tensorrt", "cpu"]})
    for which in (("-c", config), ("-m", model)):
        fails(run("build", *which), 1, "tensorrt does not run here: libcuda.so.1 is missing (install NVIDIA")


@pytest.mark.parametrize(("word", "said"), [("fail", "no tactic fits"), ("crash", "ended by SIGSEGV")])
def test_a_build_that_fails_ends_with_1(
    tmp_path: Path, card: PretendedGpu, model: Path, word: str, said: str
) -> None:
    config = write_config(tmp_path / "c.yaml", model, TEST, runtime=card.runtime)
    card.go(word)
    done = run("build", "-c", config, env={**os.environ, **card.env})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("streamd: ")
    assert said in last
    assert "Traceback" not in done.stderr
    assert card.engines() == []


def test_wrong_usage_and_unusable_models(tmp_path: Path, model: Path) -> None:
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish" * 100)
    fails(run("build"), 2, "-c", "-m")
    fails(run("build", "-c", "x.yaml", "-m", model), 2, "-c", "-m")
    fails(run("build", "-c", "x.yaml", "--size", "64"), 2, "model.size")
    fails(run("build", "-m", tmp_path / "none.onnx"), 1, "none.onnx")
    fails(run("build", "-m", tmp_path / "rubbish.onnx"), 2, "rubbish.onnx")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once(
    tmp_path: Path, card: PretendedGpu, model: Path, number: int, code: int
) -> None:
    config = write_config(tmp_path / "c.yaml", model, TEST, runtime=card.runtime)
    with start("build", "-c", config, env={**os.environ, **card.env}) as process:
        card.wait_for_builds(1)
        started = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
        assert process.returncode == code
        assert time.monotonic() - started < 5
    assert "Traceback" not in told
    assert card.engines() == []


def test_on_a_terminal_it_says_that_it_goes_on(tmp_path: Path, card: PretendedGpu, model: Path) -> None:
    config = write_config(tmp_path / "c.yaml", model, TEST, runtime=card.runtime)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamd", "build", "-c", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, **card.env}
    ) as process:
        os.close(theirs)
        text = b""
        while b": building for 10 s" not in text:
            text += os.read(ours, 1 << 12)
        card.go()
        assert process.wait(60) == 0
    os.close(ours)
    assert text.count(b": building for 5 s") == 1
