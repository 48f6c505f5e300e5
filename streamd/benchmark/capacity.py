"""How many cameras fit: an estimate from what a frame costs, and a search that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamd.benchmark.passes import Cost
from streamd.benchmark.report import Part
from streamd.core.timing import NS_PER_MS, NS_PER_S, Stage

_PARTS: dict[Stage, Part] = {
    Stage.DECODE: "decode",
    Stage.PREPROCESS: "preprocess",
    Stage.INFER: "infer",
    Stage.POSTPROCESS: "postprocess",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """What one camera takes each second: `rate` of its `source_rate` pictures a second become results."""

    rate: float
    source_rate: float
    cores: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cameras by each limit, not rounded, and what is used up first."""

    by_cpu: float
    by_worker: float
    bound: Part

    @property
    def cameras(self) -> int:
        """Whole cameras."""
        return int(min(self.by_cpu, self.by_worker))


def estimate(cost: Cost, demand: Demand, at_once: int) -> Estimate:
    """How many cameras of that demand fit, after what `cost` measured with `at_once` pictures in the model.

    by_cpu: cores over the CPU seconds that a camera takes each second. Every picture of the source is decoded; the
    other stages, and the overhead, are paid for each result. by_worker: so many pictures are in the model at a time,
    which has a second each second for the wall time of inference (the median: decoders at full speed delay some) and
    the CPU time of postprocessing.
    """
    a_result = (cost.cpu_ns - cost.stages_ns[Stage.DECODE]) / cost.frames / NS_PER_S
    decoding = cost.cpu_s_per_frame(Stage.DECODE) * demand.source_rate
    by_cpu = demand.cores / (decoding + a_result * demand.rate)
    infer_s = (cost.times.quantile_ms(Stage.INFER, 0.5) or 0.0) * NS_PER_MS / NS_PER_S / at_once
    reading_s = cost.cpu_s_per_frame(Stage.POSTPROCESS)
    by_worker = 1 / (demand.rate * (infer_s + reading_s))
    if by_worker < by_cpu:
        return Estimate(by_cpu, by_worker, "infer" if infer_s >= reading_s else "postprocess")
    shares: dict[Part, float] = {
        part: cost.cpu_s_per_frame(stage) * demand.rate for stage, part in _PARTS.items()
    }
    shares["decode"] = decoding
    shares["overhead"] = cost.overhead_ns / cost.frames / NS_PER_S * demand.rate
    return Estimate(by_cpu, by_worker, max(shares, key=shares.__getitem__))


@dataclass(frozen=True, slots=True)
class Held:
    """cameras: the most that held. confirmed: one more was tried and did not."""

    cameras: int
    confirmed: bool


def search(start: int, tries: int, holds: Callable[[int], float], held: int = 0) -> Held:
    """The most cameras that hold, by running them.

    holds: runs so many; 1 when they held, else the share of the results that came, below 1. Begins at `start`; goes
    up by halves while they hold, down by the share of the results that came while they do not. held: so many are
    known to hold.
    """
    failed: int | None = None
    cameras = max(1, start)
    for _ in range(tries):
        share = holds(cameras)
        if share >= 1:
            held = cameras
            cameras = (held + failed) // 2 if failed else held + max(1, held // 2)
        else:
            failed = cameras
            cameras = max(held + 1, min(failed - 1, int(failed * share)))
        if failed is not None and failed - held <= 1:
            break
    return Held(held, failed is not None and failed - held == 1)
