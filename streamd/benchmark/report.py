"""What `streamd bench --json` writes: one JSON object, `streamd.bench/1`.

A field that is unknown, or was not asked for, is left out; none is ever null. Fields may be added.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

SCHEMA = "streamd.bench/1"
Part = Literal["decode", "preprocess", "infer", "postprocess", "overhead"]


class Machine(Struct, omit_defaults=True, kw_only=True):
    """Where it ran. `cores`: those that the process may use."""

    cores: int
    memory_mib: int
    python: str
    onnxruntime: str
    processor: str | UnsetType = UNSET


class StageReport(Struct, omit_defaults=True, kw_only=True):
    """One stage of a frame's life in wall time; quantiles are at most 9 % too high.

    `cpu_us`: CPU time a frame, over all threads that work on the stage.
    """

    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: float | UnsetType = UNSET


class Ideal(Struct, kw_only=True):
    """Cores divided by the CPU time of decode, preprocess, infer and postprocess; off the CPU what the GPU gives.

    `share`: the part of it that was reached.
    """

    frames_per_s: float
    share: float


class Speed(Struct, omit_defaults=True, kw_only=True):
    """The source through the whole path, offline, as fast as it goes (a live source: as it comes).

    `cpu_us`: CPU time of the process a frame; `overhead_us`: what of it is in none of the four stages.
    """

    frames: int
    seconds: float
    frames_per_s: float
    stages: dict[str, StageReport]
    cpu_us: float
    overhead_us: float
    ideal: Ideal | UnsetType = UNSET


class Trial(Struct, omit_defaults=True, kw_only=True):
    """So many cameras in one daemon, from when all of them were served.

    `cpu`: cores' worth of CPU time; `memory_mib`: resident. `held`: every camera had its rate and no result came
    later and later; `why`: else what failed.
    """

    cameras: int
    seconds: float
    results: int
    expected: float
    cpu: float
    memory_mib: float
    age_p50_ms: float
    age_p95_ms: float
    age_p99_ms: float
    held: bool
    why: str | UnsetType = UNSET


class Cameras(Struct, omit_defaults=True, kw_only=True):
    """How many of them fit, each giving `rate` results a second.

    `estimate` follows from the CPU time a frame (`by_cpu`) and from how many pictures the model serves (`by_worker`).
    `held`: the most that were run and held; `confirmed`: one more was run and did not. `bound`: what is used up
    first. `cpu_per_camera`: cores, of the most that held (else of the first). `memory_per_camera_mib`: what each more
    of them takes.
    """

    rate: float
    by_cpu: float
    by_worker: float
    estimate: int
    bound: Part
    held: int
    confirmed: bool
    trials: list[Trial]
    cpu_per_camera: float
    memory_per_camera_mib: float | UnsetType = UNSET


class SameObjects(Struct, kw_only=True):
    """Whether both sides of a comparison saw the same.

    `ours_met`, `usual_met`: the share of each side's objects that the other has too (same class, overlap at least a
    half). Those that are close to the threshold may be met and do not count themselves.
    """

    ours: int
    usual: int
    ours_met: float
    usual_met: float
    agree: bool


class Comparison(Struct, kw_only=True):
    """streamd and the usual loop on the same clip and model, taking turns in one process, start excluded.

    `ratios`: the usual loop's seconds over streamd's, a pair each; `cpu_ratio`: the same of CPU time, median.
    """

    frames: int
    pairs: int
    ratio: float
    least: float
    most: float
    ratios: list[float]
    cpu_ratio: float
    frames_per_s: float
    usual_frames_per_s: float
    usual_provider: str
    objects: SameObjects


class Report(Struct, omit_defaults=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    """Everything that one run of `streamd bench` found."""

    version: str
    machine: Machine
    source: str
    width: int
    height: int
    model: str
    provider: str
    speed: Speed
    cameras: Cameras
    comparison: Comparison | UnsetType = UNSET


def encode(report: Report) -> bytes:
    """The report as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2)
