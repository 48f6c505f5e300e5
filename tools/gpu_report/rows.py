"""The rows of the report: each measures one thing, or says why it cannot be had here."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamd.core.errors import StreamdError
from streamd.models import libraries
from streamd.models.assignment import AssignmentError
from streamd.models.bound import DeviceBound
from streamd.models.contract import Graph
from streamd.models.creation import ORT_ERRORS, NotHereError, words
from streamd.models.detector import Detector
from streamd.models.engines import EngineError
from streamd.models.libraries import LibraryError
from streamd.models.memory import CudaMemory
from streamd.models.prologue import PrologueError
from streamd.models.session import Provider
from tools.gpu_report import decoding, half, nvdec, path
from tools.gpu_report.half import ENGINE_S, converted
from tools.gpu_report.measure import (
    Bench,
    NotMeasuredError,
    PageableMemory,
    Sample,
    bound_by_hand,
    opened,
    outputs_of,
    timed,
    turn_of,
    with_floats,
)

_START_S = 120.0
_TURNS = 3
_REASONS = (
    NotMeasuredError, StreamdError, LibraryError, NotHereError, AssignmentError, EngineError, PrologueError,
    OSError, ImportError, subprocess.SubprocessError, *ORT_ERRORS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    how: str
    result: str


def rows(bench: Bench) -> Iterator[Row]:
    """Every row, as soon as it is measured. The dear ones come last, and are left out when time runs short."""
    for name, measure in _ROWS.items():
        if bench.deadline.left_s() == 0:
            yield Row(name, "", "not measured: no time was left")
            continue
        try:
            yield from (Row(name, how, result) for how, result in measure(bench))
        except _REASONS as error:
            yield Row(name, "", f"not measured: {words(error)}")


_Measured = Iterator[tuple[str, str]]


def _own_time(bench: Bench) -> _Measured:
    encode, remark = path.encoder()
    with opened(bench, bench.idle, bench.options("cpu", 8), bound=False) as (description, session):
        detector = Detector(description, session, session.batch)
        frames = max(16, int(bench.seconds * 400))
        path.run(detector, 4, 16, encode)
        passage = path.run(detector, 4, frames, encode)
    per_frame = passage.cpu_s / passage.frames
    yield f"no-op model, pictures of 64 x 64, 4 streams, batch 8, {remark}", f"{per_frame * 1e6:.0f} us CPU"


def _against_bare(bench: Bench) -> _Measured:
    batch = bench.buckets[-1]
    with opened(bench, bench.detector, bench.options(batch=batch)) as (description, session):
        detector = Detector(description, session, session.batch)
        rows = session.rows(batch)
        bare = _bare_loop(session, rows, bench.seconds).per_s * rows
        bound = timed(turn_of(session, rows), bench.seconds).per_s * rows
        frames = max(2 * batch, int(bare * bench.seconds / 4))
        passage = path.run(detector, 4, frames, lambda result: None)
    pipeline = passage.frames / passage.wall_s
    yield f"bare run_with_iobinding, batch {batch}, nothing copied", f"{bare:.0f} pictures/s"
    yield f"streamd's session, batch {batch}, copies included", f"{bound:.0f} ({bound / bare:.1%} of bare)"
    yield (
        f"rings, worker and outbox around it, batch {batch}",
        f"{pipeline:.0f} ({pipeline / bare:.1%} of bare)",
    )


def _bare_loop(session: object, rows: int, seconds: float) -> Sample:
    """ONNX Runtime's loop over memory that is bound already, where the session computes."""
    inner, bound = session._session, session._bounds[0]  # type: ignore[attr-defined]
    turn_of(session, rows)()  # type: ignore[arg-type]
    binding = bound._bindings[rows]
    return timed(lambda: inner.run_with_iobinding(binding), seconds)


def _latency(bench: Bench) -> _Measured:
    for name, options in (
        ("uint8 input", bench.options()),
        ("float32 input", with_floats(bench.options())),
    ):
        if bench.provider == "cpu" and name == "uint8 input":
            options = replace(options, uint8_input=frozenset({bench.provider}))
        with opened(bench, bench.detector, options) as (_, session):
            yield f"{bench.provider}, fp32, {name}", str(timed(turn_of(session, 1), bench.seconds))


def _buckets(bench: Bench) -> _Measured:
    with opened(bench, bench.detector, bench.options(batch=bench.buckets[-1])) as (_, session):
        for bucket in bench.buckets:
            if bucket > session.batch:
                yield (
                    f"{bench.provider}, batch {bucket}",
                    f"not measured: {session.batch} is the most that runs",
                )
                continue
            sample = timed(turn_of(session, bucket), bench.seconds)
            yield f"{bench.provider}, batch {bucket}", f"{sample.per_s * bucket:.0f} pictures/s, {sample}"


def _needs_cuda(bench: Bench) -> None:
    if bench.provider == "cpu":
        raise NotMeasuredError("needs a GPU; this ran with --cpu")


def _pinned(bench: Bench) -> _Measured:
    _needs_cuda(bench)
    for name, memory in (("page-locked", CudaMemory), ("pageable", PageableMemory)):
        for bucket in (1, bench.buckets[-1]):
            with bound_by_hand(bench, memory(bench.device), bucket) as (_, made, graph):
                turn = _staged_turn(made, graph)
                yield f"cuda, {name}, batch {bucket}", str(timed(turn, bench.seconds))


def _cuda_graph(bench: Bench) -> _Measured:
    _needs_cuda(bench)
    yield from _graph_of(bench, "cuda")


def _graph_of(bench: Bench, provider: Provider) -> _Measured:
    """The daemon's own sessions, without and with."""
    options = bench.options(provider)
    with (
        opened(bench, bench.detector, options) as (_, plain),
        opened(bench, bench.detector, replace(options, cuda_graph=True)) as (_, session),
    ):
        if not session.graphs:
            raise NotMeasuredError("; ".join(session.notes))
        same = all(
            np.array_equal(one, other)
            for seed in range(3)
            for one, other in zip(outputs_of(plain, seed), outputs_of(session, seed), strict=True)
        )
        remark = "same outputs bit for bit" if same else "OTHER OUTPUTS than without"
        yield f"{provider}, fp32, CUDA graph off", str(timed(turn_of(plain, 1), bench.seconds))
        yield f"{provider}, fp32, CUDA graph on", f"{timed(turn_of(session, 1), bench.seconds)}; {remark}"


def _staged_turn(made: DeviceBound, graph: Graph) -> Callable[[], object]:
    """A run whose pictures lie where they are copied from."""
    assert made.staging is not None
    feeds = {graph.input.name: made.staging}
    return lambda: made.run(feeds)


def _overlap(bench: Bench) -> _Measured:
    """The whole path with one set of memory against two, in turns, so that both meet the same machine."""
    batch = bench.buckets[-1]
    one, two = (replace(bench.options(batch=batch), gpu_runs=runs, cpu_runs=runs) for runs in (1, 2))
    with ExitStack() as stack:
        sessions = [stack.enter_context(opened(bench, bench.detector, options)) for options in (one, two)]
        if sessions[1][1].runs == 1:
            raise NotMeasuredError("; ".join(sessions[1][1].notes) or "no second run beside the first here")
        detectors = [Detector(description, session, session.batch) for description, session in sessions]
        rates: list[list[float]] = [[], []]
        frames = batch
        for turn in range(1 + _TURNS):
            for detector, found in zip(detectors, rates, strict=True):
                passage = path.run(detector, 4, frames, lambda result: None)
                if turn:
                    found.append(passage.frames / passage.wall_s)
            # What the first turn took, which counts for nothing else, tells how much fits into the time.
            frames = max(2 * batch, int(passage.frames / passage.wall_s * bench.seconds / 4 / _TURNS))
    alone, both = (float(np.median(found)) for found in rates)
    ratio = float(np.median([other / own for own, other in zip(*rates, strict=True)]))
    how = f"{bench.provider}, batch {batch}, rings, worker and outbox"
    on_gpu = bench.provider != "cpu"  # the processor copies nothing, and has several cores
    yield f"{how}, {'one set of memory' if on_gpu else 'one run at a time'}", f"{alone:.0f} pictures/s"
    yield (
        f"{how}, {'two: one batch is copied and read while the other runs' if on_gpu else 'two at a time'}",
        f"{both:.0f} pictures/s ({ratio:.2f} times, median of {_TURNS} pairs)",
    )


def _start(bench: Bench) -> _Measured:
    yield f"{bench.provider}, batch 1, process start to first result", _first_result(bench, bench.provider)


def _first_result(bench: Bench, provider: Provider) -> str:
    cache = bench.folder / "engines"
    command = [
        sys.executable,
        "-m",
        "tools.gpu_report.first_result",
        str(bench.detector),
        provider,
        str(cache),
    ]
    started = time.perf_counter()
    process = subprocess.run(
        command, capture_output=True, text=True, timeout=_START_S, cwd=Path(__file__).parents[2], check=False
    )
    took_s = time.perf_counter() - started
    if process.returncode != 0:
        said = process.stderr.strip().splitlines()
        raise NotMeasuredError(said[-1] if said else f"the process ended with {process.returncode}")
    return f"{took_s:.2f} s, its end included"


def _tensorrt(bench: Bench) -> _Measured:
    _needs_cuda(bench)
    libraries.load(libraries.TENSORRT)
    flags = bench.options("tensorrt")
    for name, model, precision in (
        ("fp16 by trt_fp16_enable", bench.detector, "fp16"),
        ("fp32", bench.detector, "fp32"),
        ("fp16 by a converted model", None, "fp32"),
    ):
        if bench.deadline.left_s() < ENGINE_S:
            yield f"tensorrt, {name}", "not measured: no time was left to build its engine"
            continue
        chosen = replace(flags, precision=precision)  # type: ignore[arg-type]
        started = time.perf_counter()
        with opened(bench, model or converted(bench.detector), chosen) as (_, session):
            built_s = time.perf_counter() - started
            sample = timed(turn_of(session, 1), bench.seconds)
        yield f"tensorrt, {name}", f"{sample}; opened in {built_s:.0f} s, the engine's build included"
    try:
        yield from _graph_of(bench, "tensorrt")
    except (NotMeasuredError, StreamdError) as error:
        yield "tensorrt, batch 1, CUDA graph", f"not measured: {error}"
    if bench.deadline.left_s() < ENGINE_S / 4:
        raise NotMeasuredError("no time was left for its start to the first result")
    yield (
        "tensorrt, fp16, process start to first result with the engine cached",
        _first_result(bench, "tensorrt"),
    )


def _decode(bench: Bench) -> _Measured:
    yield from decoding.rates(bench)


def _nvdec(bench: Bench) -> _Measured:
    yield from nvdec.rows(bench)


_ROWS: dict[str, Callable[[Bench], _Measured]] = {
    "own time for a frame": _own_time,
    "pipeline against bare ONNX Runtime": _against_bare,
    "latency, batch 1": _latency,
    "host memory": _pinned,
    "CUDA graph": _cuda_graph,
    "batch buckets": _buckets,
    "copy while running": _overlap,
    "start to first result": _start,
    "decoding": _decode,
    "decoded, letterboxed and inferred on the GPU": _nvdec,
    "half precision, batch 1": half.routes,
    "TensorRT, batch 1": _tensorrt,
}
