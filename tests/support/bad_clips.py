"""Damaged clips through the whole of `streamd detect`, in processes that may crash or hang.

A child reads many clips, since a new interpreter for each would take most of the time. It says which seed it begins
with, so that its death or silence is known to be of that one; another child goes on with the rest.

    python -m tests.support.bad_clips FOLDER SEED...   # reads these seeds, an answer a line
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tests.support.clips import Clip, make
from tests.support.command import run_inline
from tests.support.damage import damaged
from tests.support.number_model import make_number_model

SLOW_S = 10.0
"""Of the processor: more is a hang."""
SILENT_S = 60.0
"""Of the clock, which on a busy machine says little: more is a hang as well."""
_START_S = 60.0
_TINY = Clip(frames=24, width=128, height=96, gop=8)
KINDS: dict[str, Clip] = {
    "h264.mp4": replace(_TINY, sound_s=0.5),
    "h264b.mp4": replace(_TINY, b_frames=2, second_video=True),
    "fragments.mp4": replace(_TINY, container={"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": replace(_TINY, codec="libx265"),
    "h264.ts": replace(_TINY, b_frames=1, sound_s=0.5),
    "hevc.ts": replace(_TINY, codec="libx265"),
    "h264.mkv": replace(_TINY, sound_s=0.5),
    "hevc.mkv": replace(_TINY, codec="libx265", b_frames=1),
    "raw.h264": replace(_TINY, b_frames=1),
    "raw.hevc": replace(_TINY, codec="libx265"),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a seed. `fault`: what must not be, in words; None when all is as it should be."""

    seed: int
    kind: str
    code: int | None
    frames: int
    reason: str | None
    took_s: float
    fault: str | None


def prepare(folder: Path) -> None:
    """Make the clips that are damaged, and the model."""
    for name, clip in KINDS.items():
        make(folder / name, clip)
    make_number_model(folder / "number.onnx")


def clip_of(folder: Path, seed: int) -> tuple[str, bytes]:
    """The kind and the bytes of a seed's clip."""
    names = list(KINDS)
    name = names[seed % len(names)]
    others = [(folder / other).read_bytes() for other in names]
    return name, damaged((folder / name).read_bytes(), seed, others)


def campaign(
    folder: Path, seeds: Sequence[int], children: int = 2, module: str = "tests.support.bad_clips"
) -> Iterator[Outcome]:
    """Read the seeds' clips; one outcome each, in any order. Blocks until all are done. module: the child."""
    shares = [list(seeds[n::children]) for n in range(children)]
    found: queue.Queue[Outcome | None] = queue.Queue()

    def work(share: list[int]) -> None:
        try:
            while share:
                for outcome in _child(module, folder, share):
                    if outcome.seed in share:
                        share.remove(outcome.seed)
                    found.put(outcome)
        finally:
            found.put(None)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    ended = 0
    while ended < len(threads):
        outcome = found.get()
        if outcome is None:
            ended += 1
        else:
            yield outcome
    for thread in threads:
        thread.join()


def _child(module: str, folder: Path, seeds: Sequence[int]) -> Iterator[Outcome]:
    """Outcomes of one child, until it has read all, has died, or hangs."""
    command = [sys.executable, "-m", module, str(folder), *map(str, seeds)]
    current, hangs, heard = seeds[0], False, 0
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        lines: queue.Queue[str] = queue.Queue()
        thread = threading.Thread(target=_forward, args=(process, lines))
        thread.start()
        patience_s = _START_S
        while True:
            try:
                line = lines.get(timeout=patience_s)
            except queue.Empty:
                hangs = True
                process.send_signal(signal.SIGABRT)  # faulthandler tells where it is
                break
            if not line:
                break
            answer = json.loads(line)
            if "begins" in answer:
                current, patience_s = answer["begins"], SILENT_S
                continue
            patience_s = _START_S
            said_so_far = answer.pop("said")
            if said_so_far > heard:
                answer["fault"] = f"on the process's stderr: {_words(said, heard)}"
            heard = said_so_far
            yield Outcome(**answer)
        code = process.wait()
        thread.join()
        if hangs or code:
            fault = f"no end after {SILENT_S:.0f} s" if hangs else f"exit code {code}"
            kind = list(KINDS)[current % len(KINDS)]
            yield Outcome(current, kind, None, 0, None, 0.0, f"{fault}: {_words(said, heard)}")


def _words(said: IO[bytes], start: int) -> str:
    return os.pread(said.fileno(), 3000, start).decode(errors="replace")


def _forward(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


# -- the child -------------------------------------------------------------------------------------------


def main(folder: Path, seeds: Sequence[int]) -> None:
    """Read the clips of the seeds, an answer a line on stdout."""
    faulthandler.enable()
    out = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryDirectory() as work:
        for seed in seeds:
            print(json.dumps({"begins": seed}), file=out, flush=True)
            name, content = clip_of(folder, seed)
            clip = Path(work) / f"clip{Path(name).suffix}"
            clip.write_bytes(content)
            started, worked = time.monotonic(), time.process_time()
            answer = {"seed": seed, "kind": name, **read(clip, folder / "number.onnx", Path(work))}
            answer["took_s"] = round(time.monotonic() - started, 3)
            if (busy_s := time.process_time() - worked) > SLOW_S and answer["fault"] is None:
                answer["fault"] = f"{busy_s:.0f} s of the processor"
            answer["said"] = os.fstat(2).st_size
            print(json.dumps(answer), file=out, flush=True)


def read(clip: Path, model: Path, work: Path) -> dict[str, Any]:
    """`streamd detect` on a clip, in this process, and whether all that it says fits together."""
    jsonl = work / "clip.jsonl"
    with contextlib.suppress(FileNotFoundError):
        jsonl.unlink()
    done = run_inline("detect", clip, "-m", model, "--jsonl", jsonl, "--provider", "cpu")
    return judged(done.returncode, done.stdout, done.stderr, jsonl, clip)


def judged(code: int, out: str, err: str, jsonl: Path, clip: Path) -> dict[str, Any]:
    """What came of it, and the first thing that does not fit."""
    answer: dict[str, Any] = {"code": code, "frames": 0, "reason": None}
    try:
        lines = [json.loads(line) for line in jsonl.read_text().split("\n")[:-1]]
        results, end = lines[:-1], lines[-1]
        answer |= {"frames": len(results), "reason": end.get("reason")}
        assert code in (0, 1), f"exit code {code}"
        assert out == "", f"on stdout: {out[:200]!r}"
        assert end["schema"] == "streamd.end/1", "no end line"
        assert end["frames"] == len(results), f"{end} after {len(results)} results"
        assert end["complete"] is (code == 0), f"{end} and exit code {code}"
        assert [line["seq"] for line in results] == list(range(len(results))), "seq"
        assert [line["frame"] for line in results] == list(range(len(results))), "frame"
        for line in results:
            _fits(line)
        told = err.splitlines()
        if code:
            assert len(told) == 1, f"stderr: {err[:1000]!r}"
            assert told[0].startswith("streamd: "), told
            assert clip.name in told[0], told
            assert told[0].isprintable(), told
            assert len(told[0]) < 500, told
            assert end["reason"] in ("corrupt", "eof", "codec"), end
            assert end["detail"] in told[0], (end, told)
        else:
            assert err == "", f"stderr: {err[:1000]!r}"
            assert results, "complete without a picture"
    except (AssertionError, ValueError, LookupError, OSError) as error:
        return answer | {"fault": f"{type(error).__name__}: {error}; stderr: {err[-2000:]}"}
    return answer | {"fault": None}


def _fits(line: dict[str, Any]) -> None:
    assert line["schema"] == "streamd.result/1"
    width, height = line["width"], line["height"]
    for item in line["objects"]:
        x1, y1, x2, y2 = item["box"]
        assert 0 <= x1 <= x2 <= width, item
        assert 0 <= y1 <= y2 <= height, item
        assert 0 < item["score"] <= 1, item


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
