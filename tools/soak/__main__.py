"""Run the daemon on cameras that come and go, and watch that nothing grows, is lost, or goes unexplained.

    python -m tools.soak --minutes 55 --out soak
    python -m tools.soak --minutes 4320 --out soak   # three days; Ctrl-C ends it earlier, with its summary

Writes to the folder: samples.csv (a row each 10 s), daemon.log, summary.json, summary.md. Ends with 1 when a limit is
broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from streamd.core.crew import Crew
from streamd.core.timing import Deadline
from tests.support.clips import Clip, make
from tests.support.number_model import make_number_model
from tests.support.witness import Witness
from tools.soak import samples, verdict
from tools.soak.cameras import ROOT, UP_S, CameraProcess, flap, free_ports
from tools.soak.samples import Counters, Table, counters_of, process_row
from tools.soak.watch import Problems, Watch

RATE, GOP, CLIP_FRAMES = 10, 10, 250
MAX_AGE_MS = 500.0
_MOST_DROPPED = 0.01
_READY_S = 120.0
_END_S = 10.0
_STATUS_S = 10.0
_READY = re.compile(r'ready:.*publishing on ([^\s"]+)')
_METRICS = re.compile(r"metrics on port (\d+)")
_TROUBLE = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b")


@dataclass
class Plan:
    """A soak as asked for."""

    minutes: float
    cameras: int
    flapping: int
    warm_up_s: float
    seed: int
    out: Path
    sample_s: float
    up_s: tuple[float, float]


@dataclass
class Daemon:
    """The running daemon: its process, where it publishes, and its log."""

    process: subprocess.Popen[bytes]
    endpoint: str
    port: int
    log: Path
    counters: dict[str, Counters] = field(default_factory=dict)

    def page(self, path: str) -> str:
        """A page of its metrics endpoint."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    plan = _plan(arguments)
    plan.out.mkdir(parents=True, exist_ok=True)
    chance = random.Random(plan.seed)
    clip = make(plan.out / "numbers.mp4", Clip(width=160, height=120, frames=CLIP_FRAMES, rate=RATE, gop=GOP))
    model = make_number_model(plan.out / "number.onnx")
    ports = free_ports(plan.cameras, chance)
    cameras = [CameraProcess(f"cam{i:02d}", clip, port, RATE) for i, port in enumerate(ports)]
    flapping = cameras[: plan.flapping]
    witness = Witness()
    problems = Problems(witness)
    watch = Watch(
        [camera.name for camera in cameras],
        [camera.name for camera in flapping],
        clip_frames=CLIP_FRAMES,
        keyframe_s=GOP / RATE,
        max_age_ms=MAX_AGE_MS,
        problems=problems,
    )
    with contextlib.ExitStack() as stack:
        witness.start()
        stack.callback(witness.close)
        for camera in cameras:
            stack.callback(camera.kill)
            camera.start()
        daemon = stack.enter_context(_daemon(plan, model, cameras))
        with Crew() as crew:
            _on_signals(crew)
            crew.start("watch", lambda: watch.run(daemon.endpoint, crew.stop))
            seeds = [chance.randrange(1 << 30) for _ in flapping]
            for camera, seed in zip(flapping, seeds, strict=True):
                crew.start(
                    f"flap:{camera.name}",
                    lambda camera=camera, seed=seed: flap(  # type: ignore[misc]
                        camera, random.Random(seed), crew.stop, plan.up_s, watch.returned
                    ),
                )
            began = time.monotonic()
            try:
                _observe(plan, daemon, cameras, watch, problems, crew)
            finally:
                crew.ask_stop()
                crew.join("", Deadline(90))
            lasted_s = time.monotonic() - began
        if crew.failure is not None:
            problems.add("soak", f"{crew.failed_thread}: {crew.failure!r}")
        ended = _end(daemon, problems)
    limits, figures = _findings(plan, daemon, watch, problems)
    figures |= {
        "standstills_of_the_machine": {"count": witness.count, "longest_s": round(witness.longest_s, 2)},
        "at_standstills": dict(problems.at_standstills),
    }
    figures |= {"lasted_min": round(lasted_s / 60, 1), "seed": plan.seed, **ended}
    holds = verdict.write(plan.out, figures, limits)
    print((plan.out / "summary.md").read_text())
    return 0 if holds else 1


def _plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=55, help="how long, warm-up included")
    parser.add_argument("--cameras", type=int, default=12)
    parser.add_argument("--flapping", type=int, default=4, help="of them are killed and started again")
    parser.add_argument(
        "--up", type=float, nargs=2, default=UP_S, metavar="S", help="seconds between two kills"
    )
    parser.add_argument("--warm-up-minutes", type=float, default=10, help="not judged")
    parser.add_argument("--sample", type=float, default=10, metavar="S", help="seconds between two samples")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("soak"), metavar="FOLDER")
    got = parser.parse_args(arguments)
    if not 0 <= got.flapping <= got.cameras or got.cameras < 1:
        parser.error("--flapping is between 0 and --cameras")
    return Plan(
        minutes=got.minutes,
        cameras=got.cameras,
        flapping=got.flapping,
        warm_up_s=got.warm_up_minutes * 60,
        seed=got.seed,
        out=got.out,
        sample_s=got.sample,
        up_s=tuple(got.up),
    )


def _on_signals(crew: Crew) -> None:
    """End early, with the summary, at SIGINT and SIGTERM."""
    # A handler must not set an event, which the main thread may be inside of: a thread does it.
    came: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: came.put(number))

    def heed() -> None:
        while not crew.stop.is_set():
            with contextlib.suppress(queue.Empty):
                came.get(timeout=0.5)
                crew.ask_stop()

    crew.start("signals", heed)


@contextlib.contextmanager
def _daemon(plan: Plan, model: Path, cameras: Sequence[CameraProcess]) -> Iterator[Daemon]:
    config = plan.out / "streamd.yaml"
    content = {
        "model": {"path": str(model.absolute())},
        "runtime": {"providers": ["cpu"]},
        "defaults": {"max_age_ms": int(MAX_AGE_MS)},
        "streams": {camera.name: {"url": camera.url} for camera in cameras},
        "publish": {"bind": "tcp://127.0.0.1:0"},
        "metrics": {"listen": "127.0.0.1:0"},
    }
    config.write_text(yaml.safe_dump(content))
    log = plan.out / "daemon.log"
    with log.open("wb") as file:
        # Of its own group: Ctrl-C in a terminal is for the soak, which ends the daemon in order.
        process = subprocess.Popen(
            [sys.executable, "-m", "streamd", "run", "-c", str(config.absolute())],
            cwd=ROOT, stdout=file, stderr=file, process_group=0,
        )  # fmt: skip
    try:
        deadline = Deadline(_READY_S)
        while not (ready := _READY.search(log.read_text())):
            if process.poll() is not None or deadline.left_s() <= 0:
                raise RuntimeError(f"the daemon does not start; see {log}")
            time.sleep(0.1)
        metrics = _METRICS.search(log.read_text())
        assert metrics is not None
        yield Daemon(process, ready[1], int(metrics[1]), log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _observe(
    plan: Plan,
    daemon: Daemon,
    cameras: Sequence[CameraProcess],
    watch: Watch,
    problems: Problems,
    crew: Crew,
) -> None:
    """Sample until the time is over, a signal comes, or something of the soak itself fails."""
    table = Table(plan.out / "samples.csv", watch.streams)
    steady = cameras[plan.flapping :]
    end = time.monotonic() + plan.minutes * 60
    due, status_at, statuses = time.monotonic() + plan.sample_s, time.monotonic(), 0
    try:
        while time.monotonic() < end and not crew.stop.wait(max(0.0, min(due, end) - time.monotonic())):
            if time.monotonic() < due:
                continue
            due += plan.sample_s
            if daemon.process.poll() is not None:
                problems.add("daemon", f"ended by itself with {daemon.process.returncode}")
                return
            for camera in steady:
                if camera.pid is None:
                    problems.add("soak", f"{camera.name}: its process ended by itself")
                    return
            try:
                _sample(daemon, cameras, watch, problems, table)
            except OSError as error:
                problems.add("scrape", repr(error))
            if watch.statuses > statuses:
                status_at, statuses = time.monotonic(), watch.statuses
            elif time.monotonic() - status_at > _STATUS_S:
                problems.add("status", f"none for {time.monotonic() - status_at:.0f} s")
    finally:
        table.close()


def _sample(
    daemon: Daemon,
    cameras: Sequence[CameraProcess],
    watch: Watch,
    problems: Problems,
    table: Table,
) -> None:
    page = daemon.page("/metrics")
    now, passed_s = counters_of(page, watch.streams), table.lap_s()
    before, daemon.counters = daemon.counters, now
    samples.judge(now, before, watch, problems)
    if daemon.page("/healthz") != "ok\n" or daemon.page("/readyz") != "ready\n":
        problems.add("health", "not healthy, or not ready")
    cpu = 0.0
    for camera in cameras:
        pid = camera.pid
        with contextlib.suppress(OSError):
            cpu += samples.cpu_s(pid) if pid is not None else 0.0
    row: dict[str, int | float] = {
        **process_row(daemon.process.pid),
        "cameras_cpu_s": round(cpu, 2),
        "live": sum(counters.up for counters in now.values()),
        "published": sum(counters.published for counters in now.values()),
        "dropped": sum(sum(counters.dropped.values()) for counters in now.values()),
        "skipped": sum(sum(counters.skipped.values()) for counters in now.values()),
        "log_bytes": daemon.log.stat().st_size,
    }
    if before:
        for name, counters in now.items():
            row[f"fps_{name}"] = round((counters.published - before[name].published) / passed_s, 2)
    table.add(row)


def _end(daemon: Daemon, problems: Problems) -> dict[str, Any]:
    """Stop the daemon in order, and read what it wrote."""
    started = time.monotonic()
    code = daemon.process.poll()
    if code is None:
        daemon.process.send_signal(signal.SIGTERM)
        try:
            code = daemon.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            problems.add("daemon", f"runs {_END_S:.0f} s after SIGTERM")
    if code:
        problems.add("daemon", f"ended with {code}")
    lines = 0
    with daemon.log.open(errors="replace") as file:
        for line in file:
            lines += 1
            if _TROUBLE.search(line):
                problems.add("log", line.strip()[:300])
    return {"exit_code": code, "stop_s": round(time.monotonic() - started, 2), "log_lines": lines}


def _findings(
    plan: Plan, daemon: Daemon, watch: Watch, problems: Problems
) -> tuple[list[verdict.Limit], dict[str, Any]]:
    rows = verdict.rows_of(plan.out / "samples.csv", plan.warm_up_s)
    steady = {name: row for name, row in daemon.counters.items() if not watch.streams[name].flapping}
    decoded = sum(row.decoded for row in steady.values())
    lost = sum(sum(row.dropped.values()) + sum(row.skipped.values()) for row in steady.values())
    waits = [wait for seen in watch.streams.values() for wait in seen.waits_s]
    attempts = [wait for seen in watch.streams.values() for wait in seen.attempts_s]
    limits = [
        *(verdict.memory(rows, plan.cameras) if rows else []),
        *(verdict.steady(rows, plan.flapping) if rows else []),
        verdict.Limit(
            "problems",
            json.dumps(dict(problems.counts)) if problems.counts else "none",
            "none",
            not problems.counts,
        ),
        verdict.Limit(
            "frames of steady streams without a result",
            f"{lost} of {decoded}",
            f"{_MOST_DROPPED:.0%}, by their own drop policy",
            bool(decoded) and lost <= _MOST_DROPPED * decoded,
        ),
    ]
    if plan.flapping and plan.minutes > 5:
        limits.append(verdict.Limit("cameras that came back", f"{len(waits)}", "some", len(waits) > 0))
    figures: dict[str, Any] = {
        "samples_judged": len(rows),
        "messages": watch.messages,
        "results": {
            "steady": sum(seen.results for seen in watch.streams.values() if not seen.flapping),
            "flapping": sum(seen.results for seen in watch.streams.values() if seen.flapping),
        },
        "age_ms": {
            kind: {"p50": ages.quantile_ms(0.5), "p99": ages.quantile_ms(0.99)}
            for kind, ages in watch.ages.items()
        },
        "worst_second_age_p99_ms": watch.status_age_ms,
        "events": dict(sorted(watch.events.items())),
        "camera_returns": sum(seen.returns for seen in watch.streams.values()),
        "killed_before_the_next_attempt": sum(seen.unseen_returns for seen in watch.streams.values()),
        "return_to_first_result_s": verdict.quantiles(waits),
        "attempt_to_first_result_s": verdict.quantiles(attempts),
        "dropped": {name: row.dropped for name, row in daemon.counters.items() if row.dropped},
        "skipped": {name: row.skipped for name, row in daemon.counters.items() if row.skipped},
        "reconnects": {name: row.reconnects for name, row in daemon.counters.items() if row.reconnects},
        "missing": {name: seen.missing for name, seen in watch.streams.items() if seen.missing},
        "problems": problems.lines,
    }
    if len(rows) > 1:
        span_s = rows[-1]["elapsed_s"] - rows[0]["elapsed_s"]
        figures["daemon_cores"] = round((rows[-1]["cpu_s"] - rows[0]["cpu_s"]) / span_s, 3)
        figures["log_kb_per_h"] = round((rows[-1]["log_bytes"] - rows[0]["log_bytes"]) / span_s * 3.6, 1)
    return limits, figures


if __name__ == "__main__":
    sys.exit(main())
