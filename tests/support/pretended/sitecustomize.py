"""Stands in for a GPU with TensorRT, which cannot be had here: a build that takes as long as a test wants.

With this folder on PYTHONPATH every Python has it, the daemon as well as the process that builds the engine. All
but the engine itself is the real thing: the chain, its cache and locks, the processes, the session (on the CPU, under
TensorRT's name). STREAMD_PRETENDED names a folder:

    builds    a line for each build that began: the process's id and the model's file name
    go        each build waits for it; what it says: nothing (it succeeds), `fail`, `crash`, or `no bytes`
              (it fails for a model with a uint8 input joined to it)
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from streamd.models import chain, gpu, libraries
from streamd.models.creation import NotHereError, Providers, Source
from streamd.models.engines import Tell
from streamd.models.running import Session
from streamd.models.session import NAMES, RuntimeOptions, open_cpu

FOLDER = Path(os.environ["STREAMD_PRETENDED"])


def _build(source: Source, engines: Path) -> None:
    with (FOLDER / "builds").open("a") as builds:
        builds.write(f"{os.getpid()} {source.path.name}\n")
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    word = (FOLDER / "go").read_text()
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "fail":
        raise NotHereError("no tactic fits into the GPU's memory")
    if word == "no bytes" and source.key:
        raise NotHereError("no tactic takes uint8")
    (engines / "m.engine").write_bytes(b"engine")
    content = source.path.read_bytes() if source.content is None else source.content
    (engines / "model_ctx.onnx").write_bytes(content)


def _open_on_gpu(
    source: Source, options: RuntimeOptions, notes: list[str], tell: Tell, providers: Providers
) -> Session:
    asked = providers[0][1]
    engines = Path(asked["trt_engine_cache_path"] or Path(asked["trt_ep_context_file_path"]).parent)
    if not list(engines.glob("*.engine")):
        _build(source, engines)
    larger = replace(options, cpu_batch_limit=options.batch_limit)
    session = open_cpu(source, larger, notes, tell)
    session.provider = NAMES["tensorrt"]
    return session


libraries.load = lambda *_: None
libraries.tensorrt_version = lambda: "10.13.0"
libraries.cuda_runtime_version = lambda: 13000
gpu.read_gpu = lambda _: gpu.Gpu("a card", "9.0", 132, 8 << 30, "580.1", 13000)
chain.open_on_gpu = _open_on_gpu
