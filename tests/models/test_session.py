"""Sessions on tiny graphs made on the spot: runs and batches, models that are of no use, and silence on stderr."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from streamd.core.errors import MissingFileError, ModelError, ProviderError
from streamd.models.chain import open_session
from streamd.models.contract import Tensor
from tests.support.doubling import GOOD, NEVER, ONLY_ONE, PLAIN, graph, options, save

ROOT = Path(__file__).parents[2]


def test_it_runs_and_gives_outputs_in_the_graphs_order(tmp_path: Path) -> None:
    with open_session(save(tmp_path / "m.onnx", GOOD, None), graph(None), options("cpu")) as session:
        assert session.provider == "CPUExecutionProvider"
        assert session.providers == ("CPUExecutionProvider",)
        assert (session.batch, session.notes) == (4, [])
        assert session.warm_ms > 0
        picture = np.random.default_rng(1).random((3, 3, 8, 8), np.float32)
        double, plain = session.run({"images": picture})
        np.testing.assert_array_equal(double, picture * 2)
        np.testing.assert_array_equal(plain, picture)
    with pytest.raises(ProviderError, match="closed"):
        session.run({"images": picture})


def test_a_fixed_batch_is_the_sessions_batch(tmp_path: Path) -> None:
    with open_session(save(tmp_path / "m.onnx", GOOD, 2), graph(2), options("cpu")) as session:
        assert session.batch == 2


def test_a_model_that_only_claims_to_take_any_batch_gets_what_it_can(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", ONLY_ONE, None)
    with open_session(model, graph(None), options("cpu")) as session:
        assert session.batch == 1
        assert len(session.notes) == 2
        assert session.notes[0].startswith("a batch of 4 does not run")
        session.run({"images": np.zeros((1, 3, 8, 8), np.float32)})


def test_on_the_cpu_only_a_model_that_takes_next_to_nothing_runs_in_batches(tmp_path: Path) -> None:
    many = [helper.make_node("Mul", ["images", "two"], ["step0"])]
    many += [helper.make_node("Sin", [f"step{n}"], [f"step{n + 1}"]) for n in range(2000)]
    slow = [*many, helper.make_node("Identity", ["step2000"], ["double"]), PLAIN]
    given = replace(options("cpu"), cpu_batch_limit=None)
    with open_session(save(tmp_path / "fast.onnx", GOOD, None), graph(None), given) as session:
        assert session.batch == 4
    with open_session(save(tmp_path / "slow.onnx", slow, None), graph(None), given) as session:
        assert session.batch == 1
    with open_session(
        save(tmp_path / "fast.onnx", GOOD, None), graph(None), replace(given, batch_limit=1)
    ) as session:
        assert session.batch == 1


def test_further_inputs_are_warmed_with_a_plausible_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["sizes"], ["size"], keepdims=0),
        helper.make_node("Cast", ["size"], ["scale"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["images", "scale"], ["double"]),
        PLAIN,
    ]
    sizes = helper.make_tensor_value_info("sizes", TensorProto.INT64, ["n", 2])
    model = save(tmp_path / "m.onnx", nodes, None, sizes)
    described = graph(None, Tensor("sizes", "int64", ("n", 2)))
    with open_session(model, described, options("cpu")) as session:
        assert session.batch == 4


@pytest.mark.parametrize("providers", [("cpu",), ("tensorrt", "cuda", "cpu")])
def test_a_model_that_fails_at_its_first_run_is_the_models_fault(
    tmp_path: Path, providers: tuple[str, ...]
) -> None:
    model = save(tmp_path / "m.onnx", NEVER, None)
    with pytest.raises(ModelError) as caught:
        open_session(model, graph(None), options(*providers))
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.startswith(f"{model}: it loads but fails at its first run: ")
    assert "out of data bounds" in message
    assert "\n" not in message
    assert "ONNXRuntimeError" not in message


BROKEN = {"text": b"not a model", "empty": b"", "zeros": bytes(999)}


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "zeros", "unknown operator", "bad types"])
def test_an_unusable_file_is_the_models_fault(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path / "m.onnx", GOOD, None)
    content = path.read_bytes()
    if damage == "unknown operator":
        save(path, [helper.make_node("Nonsense", ["images"], ["double"]), PLAIN], None)
    elif damage == "bad types":
        save(path, [helper.make_node("Mul", ["images", "nine"], ["double"]), PLAIN], None)
    else:
        path.write_bytes(BROKEN.get(damage, content[: len(content) // 2]))
    with pytest.raises(ModelError) as caught:
        open_session(path, graph(None), options("cpu"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ONNX Runtime does not take the model: ")


def test_a_model_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        open_session(tmp_path / "gone.onnx", graph(None), options("cpu"))


def test_wrong_feeds_are_one_line(tmp_path: Path) -> None:
    with open_session(save(tmp_path / "m.onnx", GOOD, None), graph(None), options("cpu")) as session:
        for feeds in ({}, {"images": np.zeros((1, 3, 9, 9), np.float32)}, {"images": np.zeros((1, 3, 8, 8))}):
            with pytest.raises(ModelError) as caught:
                session.run(feeds)
            assert "\n" not in str(caught.value)


SILENT = """
import sys
from pathlib import Path
from tests.support.doubling import GOOD, NEVER, graph, options, save
from streamd.core.errors import ModelError
from streamd.models.chain import open_session
from streamd.models.creation import Source, create
from streamd.models.session import NAMES
folder = Path(sys.argv[1])
order = options("tensorrt", "cuda", "cpu", cache=folder)
with open_session(save(folder / "good.onnx", GOOD, None), graph(None), order) as session:
    import numpy
    session.run({"images": numpy.zeros((2, 3, 8, 8), numpy.float32)})
    for feeds in ({}, {"images": numpy.zeros((1, 1), numpy.float32)}):
        try:
            session.run(feeds)
        except ModelError:
            pass
for name in NAMES.values():  # past the check of the libraries, where ONNX Runtime itself complains
    try:
        create(Source(folder / "good.onnx", graph(None)), [(name, {})], 1, {})
    except Exception:
        pass
(folder / "bad.onnx").write_bytes(b"nonsense")
for bad in (save(folder / "never.onnx", NEVER, None), folder / "bad.onnx"):
    try:
        open_session(bad, graph(None), order)
    except ModelError:
        pass
"""


@pytest.mark.slow
def test_nothing_of_onnx_runtime_reaches_the_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT, str(tmp_path)], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert done.stderr == b""
    assert done.stdout == b""


@pytest.mark.slow
def test_importing_the_session_loads_neither_onnx_nor_a_gpu_library() -> None:
    code = "import sys, streamd.models.session; print('onnx' in sys.modules, 'libcud' in open('/proc/self/maps').read())"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
