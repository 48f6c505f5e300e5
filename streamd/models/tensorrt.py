"""What is asked of TensorRT: the provider's options, and the shapes that an engine is built for.

Written against ONNX Runtime's documentation and source; no option here has been run on a GPU yet. The
table below is read by a test, which compares it with what is handed over.

| option | value | why |
|---|---|---|
| device_id | `runtime.device` | |
| trt_fp16_enable | 1 for fp16, else 0 | |
| trt_engine_cache_enable | 1 | building takes minutes |
| trt_engine_cache_path | the engine's own folder | its file name says nothing of the weights |
| trt_timing_cache_enable | 1 | a second build for the same GPU takes a fraction |
| trt_timing_cache_path | a folder for this GPU, driver and TensorRT | |
| trt_builder_optimization_level | 3 | TensorRT's default; below 2 the engines are poor |
| trt_profile_min_shapes | every input with 1 picture | see below |
| trt_profile_opt_shapes | every input with `batch.limit` pictures | see below |
| trt_profile_max_shapes | every input with `batch.limit` pictures | see below |

The shapes are handed over only for a model with a free dimension. Without them TensorRT learns the shapes
that it meets, and builds the engine again, for minutes, in the middle of service.

A context model is one node that names the engine's file: a session made from it parses and optimises nothing. It is
written only while an engine is built, and only of use when TensorRT runs the whole graph. So the build tries it, and
whatever is wrong with it, the engine is used without one. None of this has run yet either.
"""

from __future__ import annotations

from pathlib import Path

from streamd.models.contract import Graph
from streamd.models.shapes import is_free, shape_of

CONTEXT = "model_ctx.onnx"


def profile(graph: Graph, batch: int) -> str:
    """`name:1x3x640x640,other:1x2`, every input: TensorRT takes all or none.

    Raises ValueError for a name that the format cannot carry: ONNX Runtime would read another one in silence.
    """
    for tensor in graph.inputs:
        if set(tensor.name) & set(":,"):
            raise ValueError(f"TensorRT's shapes cannot carry the input's name {tensor.name!r}; rename it")
    return ",".join(
        f"{tensor.name}:{'x'.join(map(str, shape_of(tensor, graph, batch)))}" for tensor in graph.inputs
    )


def tensorrt_options(
    graph: Graph, batch_limit: int, precision: str, device: int, engines: Path, timings: Path
) -> dict[str, str]:
    """The provider's options, as in the table above. Raises ValueError as `profile`."""
    options = {
        "device_id": str(device),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(timings),
        "trt_builder_optimization_level": "3",
    }
    if is_free(graph):
        largest = graph.input.batch or batch_limit
        options["trt_profile_min_shapes"] = profile(graph, graph.input.batch or 1)
        options["trt_profile_opt_shapes"] = profile(graph, largest)
        options["trt_profile_max_shapes"] = profile(graph, largest)
    return options


def writing_context(options: dict[str, str], engines: Path) -> dict[str, str]:
    """The same, and a context model is written as `CONTEXT` beside the engine.

    The engine's folder is then relative to the context model's, and so stands in it: both may be moved together.
    """
    return {
        **options,
        "trt_engine_cache_path": "",
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": str(engines / CONTEXT),
        "trt_ep_context_embed_mode": "0",
    }


def without_paths(options: dict[str, str]) -> dict[str, str]:
    """The options that change what is built: all but where it is kept."""
    return {key: value for key, value in options.items() if not key.endswith("_path")}
