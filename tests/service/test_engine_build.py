"""Serving while an engine is built: real processes, with the pretended GPU of `tests.support.pretended_gpu`."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import Bench, balances, without_gaps
from tests.support.daemon import write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.pretended_gpu import PretendedGpu

pytestmark = pytest.mark.long

CPU, TENSORRT = "CPUExecutionProvider", "TensorrtExecutionProvider"
TEST = {"url": "test:?rate=25&size=128x64", "max_age_ms": 10_000}
PROMISE_S = 5.0


@pytest.fixture
def card(tmp_path: Path) -> PretendedGpu:
    return PretendedGpu(tmp_path)


@pytest.fixture
def bench(tmp_path: Path, card: PretendedGpu) -> Callable[..., Bench]:
    def make(streams: dict[str, Any], *, floats: bool = False) -> Bench:
        model = make_number_model(tmp_path / "number.onnx", floats=floats)
        return Bench(tmp_path / "c.yaml", model, streams, card.env, runtime=card.runtime)

    return make


def providers_of(messages: list[dict[str, Any]]) -> list[str]:
    """The providers of the messages, without repetition."""
    return [name for name, _ in itertools.groupby(m["provider"] for m in messages)]


def told(bench: Bench) -> list[str]:
    """What the daemon told of models and providers."""
    events = [m["event"] for m in bench.reader.of("_daemon/events")]
    return [event for event in events if event.startswith(("model", "provider"))]


def ended(pid: int, timeout_s: float = 10) -> bool:
    """Whether a process goes, or is a zombie that nobody asked about yet."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("floats", [False, True], ids=["uint8", "joined"])
def test_it_serves_at_once_and_changes_the_provider_without_losing_a_frame(
    card: PretendedGpu, bench: Callable[..., Bench], floats: bool
) -> None:
    """Batches grow at the same moment, from 1 on the CPU to 8.

    The model takes bytes, or a uint8 input is joined to it for TensorRT: then also for the CPU in front of that.
    """
    streams = {"a": dict(TEST), "b": dict(TEST), "all": {"url": TEST["url"], "intent": "every"}}
    with bench(streams, floats=floats) as bench_:
        assert bench_.all_more(streams)
        card.wait_for_builds(1)
        assert bench_.daemon.page("/readyz") == "ready\n"
        assert f'provider="{CPU}"' in bench_.daemon.page("/metrics")
        card.go()
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.all_more(streams)
        assert f'provider="{TENSORRT}"' in bench_.daemon.page("/metrics")
        assert bench_.until(lambda: TENSORRT in bench_.statuses("provider"))
        balances(bench_)
        for state in bench_.daemon.streams().values():
            assert set(state["dropped"]) <= {"ring_full"}  # a busy machine's, of live streams
        assert bench_.daemon.stop() == 0
    for name in streams:
        results = bench_.results(name)
        assert bench_.untouched(name)
        assert providers_of(results) == [CPU, TENSORRT]
        assert len({m["model"] for m in results}) == 1
        assert None not in [number_of(m["objects"]) for m in results]
    assert {m["dropped"] for m in bench_.results("all")} == {0}
    assert told(bench_)[-2:] == ["model_ready", "provider_changed"]
    assert set(told(bench_)[:-2]) <= {"model_building"}  # the subscriber may have come too late for it
    assert any("building number@" in line and TENSORRT in line for line in bench_.daemon.log)
    assert bench_.daemon_events("provider_changed")[0]["detail"] == f"from {CPU} to {TENSORRT}"
    assert len(card.engines()) == 1


def test_cuda_graphs_wait_for_a_start_without_cameras(
    card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    """The engine is there only after decoders run, which may take GPU memory at any moment."""
    card.runtime["cuda_graph"] = True
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a")
        card.wait_for_builds(1)
        card.go()
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.more("a")
        assert bench_.daemon.stop() == 0
    assert any("runtime.cuda_graph does nothing on the CPU" in line for line in bench_.daemon.log)
    assert any("no CUDA graphs before the next start" in line for line in bench_.daemon.log)


def test_an_engine_that_takes_pictures_in_another_form_drops_only_what_is_under_way(
    card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    """TensorRT has no engine for the joined model: it runs the model as it is, while the CPU in front takes bytes."""
    streams = {"a": dict(TEST), "all": {"url": TEST["url"], "intent": "every"}}
    with bench(streams, floats=True) as bench_:
        assert bench_.all_more(streams)
        card.wait_for_builds(1)
        card.go("no bytes")
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.all_more(streams, 20)
        balances(bench_)
        for state in bench_.daemon.streams().values():
            assert set(state["dropped"]) <= {"ring_full", "model_changed"}
        # A model with another number than the one that was exchanged for it: the pictures fit again.
        bench_.change(batch={"limit": 4})
        bench_.reload()
        assert bench_.all_more(streams, 20)
        balances(bench_)
        assert bench_.daemon.stop() == 0
    assert len({process for process, _ in card.builds()}) == 2, "none in the process that serves"
    for name in streams:
        results = bench_.results(name)
        assert bench_.untouched(name)
        assert providers_of(results) == [CPU, TENSORRT]
        assert None not in [number_of(m["objects"]) for m in results]
    assert any(
        "does not run it with a uint8 input: no tactic takes uint8" in line for line in bench_.daemon.log
    )


def test_the_next_start_takes_the_engine_from_the_cache(
    card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    card.go()
    for _ in range(2):
        with bench({"a": dict(TEST)}) as bench_:
            assert bench_.until(lambda: any(m["provider"] == TENSORRT for m in bench_.results("a")))
            assert bench_.daemon.stop() == 0
    assert len(card.builds()) == 1
    assert providers_of(bench_.results("a")) == [TENSORRT]
    assert told(bench_) == []


@pytest.mark.parametrize(("word", "said"), [("fail", "no tactic fits"), ("crash", "ended by SIGSEGV")])
def test_a_build_that_fails_is_told_of_and_what_runs_serves_on(
    card: PretendedGpu, bench: Callable[..., Bench], word: str, said: str
) -> None:
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        card.go(word)
        assert bench_.until(lambda: bool(bench_.daemon_events("model_failed")))
        assert said in bench_.daemon_events("model_failed")[0]["detail"]
        assert bench_.more("a", 40)
        assert bench_.daemon.page("/healthz") == "ok\n"
        assert bench_.daemon.page("/readyz") == "ready\n"
        assert bench_.daemon.stop() == 0
    assert len({process for process, _ in card.builds()}) == 1, "not tried again and again"
    assert providers_of(bench_.results("a")) == [CPU]
    assert bench_.untouched("a")
    lines = [line for line in bench_.daemon.log if said in line]
    assert len(lines) == 1
    assert f"{CPU} serves on; try again by a restart" in lines[0]
    assert not [line for line in bench_.daemon.log if "Traceback" in line]
    assert card.engines() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_an_engine_is_built(
    card: PretendedGpu, bench: Callable[..., Bench], number: int
) -> None:
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        started = time.monotonic()
        assert bench_.daemon.stop(number) == 0
        assert time.monotonic() - started < PROMISE_S
        assert not [line for line in bench_.daemon.log if "exiting without" in line]
        ((child, _),) = card.builds()
        assert ended(child)
    assert not bench_.daemon_events("model_failed")
    assert card.engines() == []


def test_a_signal_to_the_whole_group_is_a_stop_and_no_failed_build(
    card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    """As a terminal's Ctrl-C, and systemd's stop, which reach the process that builds as well."""
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        ((child, _),) = card.builds()
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child, each)
        assert bench_.more("a", 20)
        assert bench_.daemon.stop() == 0
    assert not bench_.daemon_events("model_failed")


def test_a_killed_daemon_leaves_no_build_behind(card: PretendedGpu, bench: Callable[..., Bench]) -> None:
    with bench({"a": dict(TEST)}) as bench_:
        card.wait_for_builds(1)
        ((child, _),) = card.builds()
        bench_.daemon.process.kill()
        assert ended(child)
    assert card.engines() == []
    card.go()
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.daemon.stop() == 0
    assert not list(card.cache.glob("*.build-*")), "what the first one left is cleared away"


def test_a_stream_that_is_added_meanwhile_is_served_at_once(
    card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    streams = {"a": dict(TEST)}
    with bench(streams) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        streams["b"] = dict(TEST)
        bench_.change(streams=streams)
        assert bench_.reload()["detail"] == "1 added"
        assert bench_.more("b")
        card.go()
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.all_more(streams)
        balances(bench_)
        assert bench_.daemon.stop() == 0
    assert len(card.builds()) == 1, "the build went on"
    for name in streams:
        assert providers_of(bench_.results(name)) == [CPU, TENSORRT]
        assert bench_.untouched(name)


def test_another_model_ends_the_build_and_has_its_own(
    tmp_path: Path, card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    """The former model serves until the engine of the new one is there."""
    other = make_number_model(tmp_path / "other.onnx", burn=1)
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        bench_.change(model={"path": str(other)})
        bench_.daemon.process.send_signal(signal.SIGHUP)
        card.wait_for_builds(2)
        (former, former_name), (_, name) = card.builds()
        assert (former_name, name) == ("number.onnx", "other.onnx")
        assert ended(former)
        assert bench_.more("a")
        assert not bench_.daemon_events("reloaded")
        card.go()
        assert bench_.until(lambda: bool(bench_.daemon_events("reloaded")))
        assert bench_.more("a")
        balances(bench_)
        assert bench_.daemon.stop() == 0
    results = bench_.results("a")
    assert without_gaps(results)
    seen = [
        pair for pair, _ in itertools.groupby((m["model"].partition("@")[0], m["provider"]) for m in results)
    ]
    assert seen == [("number", CPU), ("other", TENSORRT)]
    assert told(bench_)[-3:] == ["model_building", "model_ready", "provider_changed"]
    assert "model_failed" not in told(bench_)
    assert len(card.builds()) == 2
    assert len(card.engines()) == 1


def test_a_refused_model_only_makes_the_build_begin_again(
    tmp_path: Path, card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish" * 100)
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        bench_.change(model={"path": str(tmp_path / "rubbish.onnx")})
        bench_.reload("reload_refused")
        card.wait_for_builds(2)
        card.go()
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.more("a")
        assert bench_.daemon.stop() == 0
    assert providers_of(bench_.results("a")) == [CPU, TENSORRT]
    assert without_gaps(bench_.results("a"))


def test_a_model_that_was_changed_in_place_meanwhile_does_not_take_over(
    tmp_path: Path, card: PretendedGpu, bench: Callable[..., Bench]
) -> None:
    """Its results would go out under the name of the former one."""
    with bench({"a": dict(TEST)}) as bench_:
        assert bench_.more("a", 3)
        card.wait_for_builds(1)
        make_number_model(tmp_path / "fresh.onnx", burn=2).rename(tmp_path / "number.onnx")
        card.go()
        assert bench_.until(lambda: bool(bench_.daemon_events("model_failed")))
        assert "was changed meanwhile" in bench_.daemon_events("model_failed")[0]["detail"]
        bench_.reload()
        assert bench_.more("a")
        assert bench_.daemon.stop() == 0
    assert providers_of(bench_.results("a")) == [CPU, TENSORRT]
    assert bench_.results("a")[0]["model"] != bench_.results("a")[-1]["model"]


def test_an_age_budget_that_only_the_awaited_provider_keeps_does_not_refuse_the_start(
    tmp_path: Path, card: PretendedGpu
) -> None:
    slow = make_number_model(tmp_path / "slow.onnx", burn=20)
    streams = {"a": {**TEST, "max_age_ms": 1}}
    with Bench(tmp_path / "c.yaml", slow, streams, card.env, runtime=card.runtime) as bench_:
        assert any(
            "until the engine is built, results that come too late" in line for line in bench_.daemon.log
        )
        card.go()
        # It is no faster here either: told of, but no reason to stay on what is slower still elsewhere.
        assert bench_.until(lambda: bool(bench_.daemon_events("provider_changed")))
        assert bench_.until(
            lambda: any(line.endswith("or to null for no budget") for line in bench_.daemon.log)
        )
        assert bench_.daemon.stop() == 0


def test_without_fallback_nothing_is_served_before_the_engine_is_there(
    tmp_path: Path, card: PretendedGpu
) -> None:
    model = make_number_model(tmp_path / "number.onnx")
    runtime = card.runtime | {"fallback": False}
    config = write_config(tmp_path / "c.yaml", model, {"a": dict(TEST)}, runtime=runtime)
    command = [sys.executable, "-m", "streamd", "run", "-c", str(config)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **card.env}
    ) as process:
        assert process.stderr is not None
        card.wait_for_builds(1)
        time.sleep(1.5)
        card.go()
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "ready:" in line:
                break
        before = [line for line in lines if "building the TensorRT engine" in line]
        assert len(before) == 1
        assert TENSORRT in lines[-1]
        process.terminate()
        assert process.wait(20) == 0
