"""The options that TensorRT's provider is handed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from streamd.models import tensorrt
from streamd.models.contract import Graph, InputShape, Tensor


def graph(batch: int | str | None, size: int | str = 640, *further: Tensor, name: str = "images") -> Graph:
    shape = InputShape(name, 640, 640, True, np.dtype(np.float32), batch if isinstance(batch, int) else None)
    return Graph((Tensor(name, "float32", (batch, 3, size, size)), *further), (), {}, shape)


SIZES = Tensor("orig_target_sizes", "int64", ("n", 2))


def documented() -> dict[str, str]:
    """The table of options in the module's docstring."""
    rows = re.findall(r"^\| (\w+) \| (.+?) \| (.*?) ?\|$", tensorrt.__doc__ or "", re.MULTILINE)
    return {name: value for name, value, _ in rows if name != "option"}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("described", [graph("n"), graph(1), graph(None, "size", SIZES), graph(4, "size")])
def test_the_options_handed_over_are_the_documented_ones(precision: str, described: Graph) -> None:
    options = tensorrt.tensorrt_options(described, 8, precision, 2, Path("/c/key"), Path("/c/timings"))
    free = described.inputs[0].shape != (1, 3, 640, 640)
    fixed = described.input.batch
    meanings = {
        "`runtime.device`": "2",
        "1 for fp16, else 0": "1" if precision == "fp16" else "0",
        "the engine's own folder": "/c/key",
        "a folder for this GPU, driver and TensorRT": "/c/timings",
        "every input with 1 picture": tensorrt.profile(described, fixed or 1),
        "every input with `batch.limit` pictures": tensorrt.profile(described, fixed or 8),
    }
    expected = {name: meanings.get(value, value) for name, value in documented().items()}
    if not free:
        expected = {name: value for name, value in expected.items() if "profile" not in name}
    assert options == expected
    assert len(documented()) == 10


def test_profiles_name_every_input_or_none() -> None:
    assert tensorrt.profile(graph("n", "s", SIZES), 8) == "images:8x3x640x640,orig_target_sizes:8x2"
    for name in ("images:0", "a,b"):
        with pytest.raises(ValueError, match="rename it"):
            tensorrt.profile(graph("n", name=name), 1)


def test_every_option_is_one_that_this_onnx_runtime_knows() -> None:
    import onnxruntime

    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    if not library.exists():
        pytest.skip("gpu: onnxruntime without its TensorRT provider")
    content = library.read_bytes()
    asked = tensorrt.writing_context(dict.fromkeys(documented(), ""), Path("/c"))
    assert len(asked) == len(documented()) + 3
    assert [name for name in asked if name.encode() + b"\0" not in content] == []


def test_options_that_only_say_where_are_not_in_the_key() -> None:
    one, two = (tensorrt.tensorrt_options(graph("n"), 8, "fp16", 0, Path(p), Path(p)) for p in "ab")
    assert one != two
    assert tensorrt.without_paths(one) == tensorrt.without_paths(two)
    assert "trt_profile_max_shapes" in tensorrt.without_paths(one)


def test_a_context_model_lies_beside_its_engine_and_names_it_relatively() -> None:
    plain = tensorrt.tensorrt_options(graph("n"), 8, "fp16", 0, Path("/c/key"), Path("/c/timings"))
    asked = tensorrt.writing_context(plain, Path("/c/key"))
    changed = {name: value for name, value in asked.items() if plain.get(name) != value}
    assert changed == {
        "trt_engine_cache_path": "",
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": "/c/key/model_ctx.onnx",
        "trt_ep_context_embed_mode": "0",
    }
