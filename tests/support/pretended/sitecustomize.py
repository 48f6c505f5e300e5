"""Stands in for a GPU with TensorRT, which cannot be had here: a build that takes as long as a test wants.

With this folder on PYTHONPATH every Python has it, the daemon as well as the process that builds the engine. All
but the engine itself is the real thing: the chain, its cache and locks, the processes, the session (on the CPU, under
TensorRT's name). STREAMD_PRETENDED names a folder:

    builds    a line for each build that began: the process's id and the model's file name
    go        each build waits for it; what it says: nothing (it succeeds), `fail` or `crash`
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

from streamd.models import chain, gpu, libraries
from streamd.models.contract import Graph
from streamd.models.session import NAMES, NotHereError, Providers, RuntimeOptions, Session, open_cpu

FOLDER = Path(os.environ["STREAMD_PRETENDED"])


def _build(model: Path, engines: Path) -> None:
    with (FOLDER / "builds").open("a") as builds:
        builds.write(f"{os.getpid()} {model.name}\n")
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    word = (FOLDER / "go").read_text()
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "fail":
        raise NotHereError("no tactic fits into the GPU's memory")
    (engines / "m.engine").write_bytes(b"engine")
    shutil.copy(model, engines / "model_ctx.onnx")


def _open_on_gpu(
    model: Path, graph: Graph, options: RuntimeOptions, notes: list[str], providers: Providers
) -> Session:
    asked = providers[0][1]
    engines = Path(asked["trt_engine_cache_path"] or Path(asked["trt_ep_context_file_path"]).parent)
    if not list(engines.glob("*.engine")):
        _build(model, engines)
    larger = replace(options, cpu_batch_limit=options.batch_limit)
    session = open_cpu(model, graph, larger, notes, lambda _: None)
    session.provider = NAMES["tensorrt"]
    return session


libraries.load = lambda *_: None
libraries.tensorrt_version = lambda: "10.13.0"
libraries.cuda_runtime_version = lambda: 13000
gpu.read_gpu = lambda _: gpu.Gpu("a card", "9.0", 132, 8 << 30, "580.1", 13000)
chain.open_on_gpu = _open_on_gpu
