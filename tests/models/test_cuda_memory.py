"""Memory as CUDA's own functions give it."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from streamd.models import libraries, memory
from streamd.models.graph import read_graph
from streamd.models.libraries import LibraryError
from streamd.models.memory import CudaMemory
from streamd.models.shapes import black
from tests.support.bound_sessions import opened
from tests.support.far_memory import PretendedRuntime
from tests.support.gpu import needs_gpu
from tests.support.number_model import make_number_model


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> PretendedRuntime:
    """libcudart in place of which the C library's memory stands: there is no GPU to be had here."""
    runtime = PretendedRuntime()
    monkeypatch.setattr(memory, "cuda_runtime", lambda: runtime)
    return runtime


def test_cuda_memory_is_used_as_the_runtime_wants_and_given_back(pretended: PretendedRuntime) -> None:
    with CudaMemory(0) as made:
        array = made.host((2, 3), np.dtype(np.float16))
        assert array.shape == (2, 3)
        assert not array.any()
        address = made.reserve(array.nbytes)
        array[...] = np.arange(6).reshape(2, 3)
        back = made.host((2, 3), np.dtype(np.float16))
        made.upload(array, address)
        made.download(address, back)
        made.finish()
        np.testing.assert_array_equal(back, array)
        with pytest.raises(LibraryError, match=r"a copy could not be queued \(CUDA error 1\)"):
            made.upload(array, 4096)
    assert not pretended.device
    assert not pretended.streams
    assert not pretended.default_awaited
    view = back[1:]
    del array, back
    gc.collect()
    assert len(pretended.host) == 1, "a view keeps its memory"
    assert view.tolist() == [[3, 4, 5]]
    del view
    gc.collect()
    assert not pretended.host


def test_arrays_on_the_gpu_are_freed_with_their_last_reference(pretended: PretendedRuntime) -> None:
    with CudaMemory(0) as made:
        one, other = (made.array((2, 3), np.dtype(np.float16)) for _ in range(2))
        source = made.host((2, 3), np.dtype(np.float16))
        source[...] = np.arange(6).reshape(2, 3)
        made.upload(source, one.address)
        made.copy(one, other.address)
        made.finish()
        made.await_decoders()
        assert pretended.default_awaited == 1
        pretended.refuse = {"device"}
        with pytest.raises(LibraryError, match=r"no 4 bytes of GPU memory \(CUDA error 2\)"):
            made.array((4,), np.dtype(np.uint8))
    assert len(pretended.device) == 2, "they outlive what made them"
    fetched = other.fetch()
    del one, other
    gc.collect()
    assert not pretended.device
    np.testing.assert_array_equal(fetched, source)
    assert not pretended.streams
    forgotten = CudaMemory(0)
    assert pretended.streams
    del forgotten
    gc.collect()
    assert not pretended.streams, "a letterbox that is made anew with each connection leaves nothing behind"


def test_a_gpu_that_is_not_there_or_full_is_a_line(pretended: PretendedRuntime) -> None:
    with pytest.raises(LibraryError, match=r"there is no such GPU \(CUDA error 101\)"):
        CudaMemory(3)
    pretended.refuse = {"host", "device"}
    with CudaMemory(0) as made:
        with pytest.raises(LibraryError, match=r"no 12 bytes of page-locked memory \(CUDA error 2\)"):
            made.host((3, 4), np.dtype(np.uint8))
        with pytest.raises(LibraryError, match=r"no 12 bytes of GPU memory \(CUDA error 2\)"):
            made.reserve(12)


@pytest.mark.parametrize("lacking", ["host", "device"])
def test_without_memory_the_model_runs_all_the_same(
    tmp_path: Path, pretended: PretendedRuntime, lacking: str
) -> None:
    pretended.refuse = {lacking}
    path = make_number_model(tmp_path / "m.onnx")
    with opened(path, read_graph(path), lambda: CudaMemory(0)) as session:
        (note,) = session.notes
        assert note.startswith("inputs and outputs are not bound to fixed memory: no ")
        session.run(black(session.graph, 4))
    gc.collect()
    left = pretended.host | pretended.device | pretended.streams
    assert not left, "nothing is left behind"


@pytest.mark.gpu
@needs_gpu
def test_cuda_memory_holds_what_it_was_given() -> None:
    libraries.load(libraries.CUDA)
    with CudaMemory(0) as made:
        there = made.host((1 << 20,), np.dtype(np.uint8))
        back = made.host((1 << 20,), np.dtype(np.uint8))
        address = made.reserve(there.nbytes)
        for seed in range(20):
            there[...] = np.random.default_rng(seed).integers(0, 256, len(there))
            made.upload(there, address)
            made.download(address, back)
            made.finish()
            np.testing.assert_array_equal(there, back)
