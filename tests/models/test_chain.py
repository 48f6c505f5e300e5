"""Which provider of the chain runs a model, what is said of those before it, and what serves until one is there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from streamd.core.errors import ProviderError
from streamd.models import chain
from streamd.models import session as session_module
from streamd.models.assignment import AssignmentError, judge
from streamd.models.chain import open_session
from streamd.models.creation import NotHereError, Providers, Source
from streamd.models.engines import Tell
from streamd.models.presets import PRESETS
from streamd.models.running import Session
from streamd.models.session import RuntimeOptions
from tests.support.doubling import GOOD, graph, options, save
from tests.support.gpu import needs_gpu, needs_no_gpu


@needs_no_gpu
def test_the_chain_ends_on_the_cpu_and_says_why(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with open_session(model, graph(None), options("tensorrt", "cuda", "cpu")) as session:
        assert session.provider == "CPUExecutionProvider"
        assert len(session.notes) == 2
        for provider, note in zip(("tensorrt", "cuda"), session.notes, strict=True):
            assert note.startswith(f"{provider} does not run here: lib")
            assert " is missing (" in note


@needs_no_gpu
@pytest.mark.parametrize("first", ["tensorrt", "cuda"])
def test_without_fallback_the_first_provider_or_none(tmp_path: Path, first: str) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with pytest.raises(ProviderError) as caught:
        open_session(model, graph(None), options(first, "cpu", fallback=False))
    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert message.startswith(f"{first} does not run here: libcuda.so.1 is missing (install NVIDIA's driver")
    assert message.endswith("runtime.fallback is false, so nothing else is tried")
    assert "\n" not in message


@needs_no_gpu
def test_a_chain_without_the_cpu_never_ends_there(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with pytest.raises(ProviderError, match=r"tensorrt does not .*; cuda does not .* names no other"):
        open_session(model, graph(None), options("tensorrt", "cuda"))


def test_without_fallback_the_cpu_runs_when_it_is_first(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    with open_session(model, graph(None), options("cpu", "cuda", fallback=False)) as session:
        assert session.provider == "CPUExecutionProvider"


def test_who_runs_what_is_judged_by_where_the_work_is() -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    assert judge({cuda: ["Conv", "Relu"]}, cuda) == []
    assert judge({cpu: ["Conv"]}, cpu) == []
    (remark,) = judge({cuda: ["Conv"], cpu: ["Gather", "Concat", "Gather"]}, cuda)
    assert (
        remark
        == "CUDAExecutionProvider leaves 3 of the model's nodes to CPUExecutionProvider: Concat, Gather"
    )
    with pytest.raises(AssignmentError, match="leaves FusedConv on the CPU"):
        judge({cuda: ["MatMul"], cpu: ["FusedConv", "Gather"]}, cuda)
    with pytest.raises(AssignmentError, match="none of the model's 2 nodes"):
        judge({cpu: ["Mul", "Add"]}, cuda)


@needs_no_gpu
@pytest.mark.usefixtures("pretended_card")
def test_onnx_runtimes_own_fallback_is_noticed(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    told: list[str] = []
    order = options("tensorrt", "cuda", "cpu", cache=tmp_path / "cache")
    with open_session(model, graph(None), order, told.append) as session:
        assert session.provider == "CPUExecutionProvider"
        tensorrt, cuda = session.notes
    assert tensorrt.startswith("tensorrt does not run here: no session could be made: ")
    assert "Please install TensorRT libraries" in tensorrt
    assert cuda == "cuda does not run here: ONNX Runtime made a session on CPUExecutionProvider instead"
    assert told == ["building the TensorRT engine of m.onnx; this takes minutes, the next start will not"]
    assert not list((tmp_path / "cache").glob("*/*.engine")), "a build that failed leaves no engine"


@pytest.mark.usefixtures("pretended_card")
def test_a_cache_that_cannot_be_written_is_a_reason_not_to_take_tensorrt(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = save(tmp_path / "m.onnx", GOOD, None)
    order = options("tensorrt", fallback=False, cache=tmp_path / "file")
    with pytest.raises(ProviderError, match=r"cache .* cannot be written: .*; set runtime\.cache_dir"):
        open_session(model, graph(None), order)


@needs_no_gpu
@pytest.mark.usefixtures("pretended_card")
def test_a_provider_that_does_not_run_the_uint8_input_runs_the_model_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the CPU in the place of CUDA, which refuses the joined model."""

    def pretend(
        source: Source, asked: RuntimeOptions, notes: list[str], tell: Tell, providers: Providers
    ) -> Session:
        if source.key:
            raise NotHereError("no uint8 here")
        return session_module.open_cpu(source, asked, notes, tell)

    monkeypatch.setattr(session_module, "open_on_gpu", pretend)
    model = save(tmp_path / "m.onnx", GOOD, None)
    order = options("cuda", fallback=False)
    with open_session(model, graph(None), order, contract=PRESETS["yolox"]) as session:
        assert session.graph.input.dtype == np.float32
        assert session.notes == ["cuda does not run it with a uint8 input: no uint8 here"]


def test_what_serves_in_front_of_an_awaited_provider_takes_pictures_in_its_form(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    for joining, form in ((frozenset({"tensorrt", "cuda"}), np.uint8), (frozenset({"cuda"}), np.float32)):
        order = dataclasses.replace(options("tensorrt", "cpu"), uint8_input=joining)
        rest = chain.meanwhile(order)
        assert rest is not None
        with open_session(model, graph(None), rest, contract=PRESETS["yolox"]) as session:
            assert session.provider == "CPUExecutionProvider"
            assert session.graph.input.dtype == form
    assert chain.meanwhile(dataclasses.replace(order, fallback=False)) is None


@needs_no_gpu
def test_nothing_is_awaited_of_a_provider_that_does_not_run_here(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    order = options("tensorrt", "cpu", cache=tmp_path / "cache")
    assert chain.awaited(model, graph(None), order) is None
    with pytest.raises(ProviderError, match=r"^tensorrt does not run here: libcuda.so.1 is missing \("):
        chain.build_engine(model, graph(None), order)


@pytest.mark.gpu
@needs_gpu
def test_cuda_runs_what_the_cpu_runs(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", GOOD, None)
    picture = np.random.default_rng(1).random((2, 3, 8, 8), np.float32)
    with open_session(model, graph(None), options("cuda", fallback=False)) as session:
        assert session.provider == "CUDAExecutionProvider"
        np.testing.assert_allclose(session.run({"images": picture})[0], picture * 2)
