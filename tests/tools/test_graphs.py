"""The graphs with random weights: valid, of the stated size, and what is planted in them comes out of our path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from streamd.models.chain import open_session
from streamd.models.contract import Array, Placement
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.selection import rules_for
from streamd.models.session import RuntimeOptions
from tools.graphs.cost import cost_of
from tools.graphs.detectors import Form, yolov8n, yolov10n
from tools.graphs.noop import noop
from tools.graphs.planted import Planted
from tools.make_graphs import MAKERS, main

pytestmark = pytest.mark.slow

SMALL = {"height": 96, "width": 160}
CPU = RuntimeOptions(("cpu",), True, "fp32", 0, Path(), 4, cpu_batch_limit=4)


def outputs(model: onnx.ModelProto, pictures: Array) -> Array:
    """What onnxruntime itself, without any of our code, makes of it."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": pictures})
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize(
    ("name", "parameters", "gflops", "shape"),
    [("v8n", 3.16e6, 8.7, (84, 8400)), ("v10n", 2.3e6, 6.7, (300, 6))],
)
def test_full_size_is_as_stated(name: str, parameters: float, gflops: float, shape: tuple[int, int]) -> None:
    model = MAKERS[name](Form())
    onnx.checker.check_model(model, full_check=True)
    cost = cost_of(model)
    assert cost.parameters == pytest.approx(parameters, rel=0.02)
    assert cost.gflops == pytest.approx(gflops, rel=0.02)
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [1, *shape]


def test_cost_of_known_layers() -> None:
    """One convolution: 5 x 3 x 3 x 3 weights and 5 biases; each of 8 x 8 results takes 27 multiply-adds."""
    weight = onnx.numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), "w")
    bias = onnx.numpy_helper.from_array(np.zeros(5, np.float32), "b")
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 4)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, 8, 8])
        for name, channels in (("x", 3), ("y", 5))
    ]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight, bias])
    cost = cost_of(onnx.helper.make_model(graph))
    assert (cost.parameters, cost.gflops) == (5 * 27 + 5, 2 * 27 * 5 * 64 / 1e9)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_it_runs_and_random_weights_find_nothing(name: str, dynamic: bool) -> None:
    model = MAKERS[name](Form(**SMALL, dynamic=dynamic))
    pictures = np.random.default_rng(3).random((3 if dynamic else 1, 3, 96, 160), np.float32)
    found = outputs(model, pictures)
    assert np.isfinite(found).all()
    scores = found[:, 4:] if name == "v8n" else found[..., 4]
    assert scores.max() < 0.01
    assert not dynamic or found.std(axis=0).max() > 0  # pictures differ, and so does what comes out


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    make = MAKERS[name]
    first = make(Form(**SMALL, seed=5)).SerializeToString()
    assert make(Form(**SMALL, seed=5)).SerializeToString() == first
    assert make(Form(**SMALL, seed=6)).SerializeToString() != first


@pytest.mark.long
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("v8n", Planted(20)),
        ("v8n", Planted(12, copies=8)),
        ("v8n", Planted(1)),
        ("v10n", Planted(20)),
        ("noop", Planted(100)),
        ("noop", Planted(0)),
    ],
    ids=str,
)
def test_planted_boxes_come_out_of_the_detector(
    name: str, planted: Planted, batch: int, tmp_path: Path
) -> None:
    """Through head, suppression and the way back to the source's pixels, for each picture of a batch."""
    form = Form(**SMALL, dynamic=True, planted=planted)
    model = noop(planted) if name == "noop" else MAKERS[name](form)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    description = describe(path)
    shape = description.graph.input
    with open_session(path, description.graph, CPU) as session:
        detector = Detector(description, session, session.batch)
        pictures = [np.ones(shape.picture, shape.dtype) for _ in range(batch)]  # white
        results = detector.run(pictures)
        for row in range(batch):
            placed = Placement(0.5, 0.5, 0, 0, shape.width, shape.height)
            size = (2 * shape.width, 2 * shape.height)
            found = detector.read(results, row, placed, size, rules_for(description.labels))
            expected = planted.rows(shape.width, shape.height, 80)
            np.testing.assert_allclose(found.boxes, expected[:, :4] * 2, atol=1e-3)
            np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-5)
            np.testing.assert_array_equal(found.class_ids, expected[:, 5])


def test_the_raw_head_has_every_copy() -> None:
    found = outputs(
        yolov8n(Form(**SMALL, planted=Planted(12, copies=8))), np.zeros((1, 3, 96, 160), np.float32)
    )
    assert (found[0, 4:].max(axis=0) > 0.25).sum() == 96


def test_top_k_looks_at_every_line() -> None:
    """Boxes planted from the first line to the last: the graph has to find the best of all levels."""
    form = Form(**SMALL, planted=Planted(50))
    rows = outputs(yolov10n(form), np.zeros((1, 3, 96, 160), np.float32))[0]
    assert (rows[:, 4] > 0.25).sum() == 50
    assert (np.diff(rows[:, 4]) <= 0).all()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--size", "100"], "multiples of 32"),
        (["--size", "x"], "invalid"),
        (["--planted", "301"], "do not fit"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path), *words])
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_the_script_writes_all_and_says_what_they_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path / "new"), "--size", "64x96", "--planted", "2"])
    lines = capsys.readouterr().out.splitlines()
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["noop_64x64.onnx", "v10n_64x96.onnx", "v8n_64x96.onnx"]
    assert len(lines) == 3
    assert "M parameters" in lines[0]
    assert "GFLOPs" in lines[0]
