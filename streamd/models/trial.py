"""Whether a provider really runs here: a model of one convolution, made on the spot, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamd.models.chain import open_session
from streamd.models.contract import Array
from streamd.models.graph import read_graph
from streamd.models.session import NAMES, Provider, RuntimeOptions

_SIDE, _OPSET, _IR = 32, 13, 8
_WEIGHTS = (1.0, 2.0, 4.0)
"""Of the three channels, all over a kernel of 3 x 3. Small integers all the way: exact in TF32 and in float16."""


class TrialError(Exception):
    """It ran and came to something else; the message says what."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What ran it, by ONNX Runtime's name, and how long one warm run took."""

    provider: str
    warm_ms: float


def try_provider(provider: Provider, device: int, folder: Path) -> Trial:
    """Runs the model on this provider and on no other, by the path that serves, and checks what it comes to.

    folder: for the model and an engine; nobody needs either afterwards. Blocks: a second, with TensorRT some more.
    Raises ProviderError, ModelError, TrialError; OSError when the folder cannot be written.
    """
    path = folder / f"trial-{provider}.onnx"
    path.write_bytes(_model())
    options = RuntimeOptions(
        providers=(provider,),
        fallback=False,
        precision="fp32",
        device=device,
        cache_dir=folder / "engines",
        batch_limit=1,
        uint8_input=frozenset(),
        gpu_runs=1,
    )
    graph = read_graph(path)
    picture = _picture()
    with open_session(path, graph, options) as session:
        (seen,) = session.run({graph.input.name: picture})
        if session.provider != NAMES[provider]:
            raise TrialError(f"{session.provider} ran it instead")
        wanted = _by_hand(picture)
        if seen.shape != wanted.shape or not np.allclose(seen, wanted, rtol=0, atol=0.5):
            raise TrialError("it runs and comes to wrong numbers")
        return Trial(session.provider, session.warm_ms)


def _model() -> bytes:
    weights = np.broadcast_to(np.array(_WEIGHTS, np.float32).reshape(1, 3, 1, 1), (1, 3, 3, 3))
    shape = [1, 3, _SIDE, _SIDE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["sums"], kernel_shape=[3, 3])],
        "trial",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, [1, 1, _SIDE - 2, _SIDE - 2])],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _picture() -> Array:
    values = np.arange(3 * _SIDE * _SIDE, dtype=np.float32) % 256
    return values.reshape(1, 3, _SIDE, _SIDE)


def _by_hand(picture: Array) -> Array:
    weighted = np.tensordot(np.array(_WEIGHTS, np.float32), picture[0], 1)
    sums: Array = np.lib.stride_tricks.sliding_window_view(weighted, (3, 3)).sum((2, 3))
    return sums[None, None]
