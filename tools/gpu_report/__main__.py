"""Measure the GPU path on this machine and write one Markdown table.

    python -m tools.gpu_report                  # under 8 minutes; the table goes to stdout
    python -m tools.gpu_report --out report.md
    python -m tools.gpu_report --cpu            # tiny, on the processor: shows that the report works, no more

Needs onnxruntime-gpu, onnx and numpy; what needs more says so in its row. Ends with 1 when there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from streamd.core.timing import Deadline
from streamd.models import gpu, libraries
from streamd.models.creation import quieten, versions
from tools.gpu_report.measure import Bench
from tools.gpu_report.rows import Row, rows
from tools.graphs.cost import cost_of
from tools.graphs.detectors import Form, yolov10n
from tools.graphs.noop import noop
from tools.graphs.planted import Planted

_LIMIT_S = 440.0
_OBJECTS = 20


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_report", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the Markdown file to write; else stdout")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each loop runs")
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on the processor, to try the report")
    asked = parser.parse_args(arguments)
    if not asked.cpu:
        try:
            libraries.load(libraries.CUDA)
            gpu.read_gpu(0)
        except libraries.LibraryError as error:
            print(f"gpu_report: no GPU to measure: {error}", file=sys.stderr)
            return 1
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            provider="cpu" if asked.cpu else "cuda",
            folder=Path(folder),
            side=160 if asked.cpu else 640,
            seconds=min(asked.seconds, 0.05) if asked.cpu else asked.seconds,
            buckets=(1, 2) if asked.cpu else (1, 2, 4, 8, 16),
            deadline=Deadline(_LIMIT_S),
        )
        model = yolov10n(Form(bench.side, bench.side, dynamic=True, seed=0, planted=Planted(_OBJECTS)))
        onnx.save(model, bench.detector)
        onnx.save(noop(Planted(_OBJECTS)), bench.idle)
        head = list(_head(bench, cost_of(model).parameters))
        found = []
        for row in rows(bench):
            found.append(row)
            print(f"{row.what}: {row.how}: {row.result}", file=sys.stderr, flush=True)
    text = "\n".join([*head, "", *_table(found), ""])
    if asked.out is None:
        print(text)
    else:
        asked.out.write_text(text, encoding="utf-8")
    return 0


def _head(bench: Bench, parameters: int) -> Iterator[str]:
    onnx_runtime, built = versions()
    if bench.provider == "cpu":
        yield "Processor only, tiny sizes: these figures show that the report works and say nothing of a GPU."
    else:
        card = gpu.read_gpu(bench.device)
        yield (
            f"GPU: {card.name}, compute capability {card.compute}, {card.memory / 2**30:.0f} GiB, "
            f"driver {card.driver or 'unknown'} (CUDA {card.driver_cuda / 1000:.1f})."
        )
        yield f"CUDA runtime {libraries.cuda_runtime_version()}, TensorRT {_tensorrt()}."
    yield f"onnxruntime {onnx_runtime} ({built}), Python {platform.python_version()}, {os.cpu_count()} cores."
    yield (
        f"Model: a detector with random weights, {bench.side} x {bench.side}, {parameters / 1e6:.1f} million "
        f"parameters (YOLOv10-N: 2.3), end to end. Each loop ran for {bench.seconds:g} s."
    )


def _tensorrt() -> str:
    try:
        libraries.load(libraries.TENSORRT)
        return libraries.tensorrt_version()
    except libraries.LibraryError as error:
        return f"none ({error})"


def _table(found: list[Row]) -> Iterator[str]:
    yield "| what | how | result |"
    yield "|---|---|---|"
    for row in found:
        yield "| " + " | ".join(part.replace("|", "/") for part in (row.what, row.how, row.result)) + " |"


if __name__ == "__main__":
    sys.exit(main())
