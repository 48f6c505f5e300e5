"""What the benchmarks share. In an ordinary run each of them runs once, small, to show that it still works.

docs/PERFORMANCE.md has the command that measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import pytest


@dataclass(frozen=True)
class Effort:
    """How much is done: enough for figures, or just enough to see that it works."""

    measuring: bool

    def choose(self, much: int, little: int) -> int:
        """`much` when this run measures."""
        return much if self.measuring else little

    @property
    def pairs(self) -> int:
        """Turns of two sides that are compared."""
        return self.choose(15, 1)


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> Effort:
    """Whether this run measures: `--benchmark-enable` was given."""
    option = request.config.getoption
    return Effort(bool(option("benchmark_enable")) or not option("benchmark_disable"))


@pytest.fixture(scope="session")
def full_hd(effort: Effort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's clip at 1080p, H.264: natural enough edges and noise, no B frames."""
    path = tmp_path_factory.mktemp("clips") / "full_hd.mp4"
    frames = effort.choose(100, 4)
    demo = str(files("streamd") / "assets" / "demo.mp4")
    with av.open(demo) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 50, 0
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for number, frame in enumerate(source.decode(video=0)):
            if number == frames:
                break
            larger = frame.reformat(width=1920, height=1080, threads=1)
            larger.pts, larger.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(larger))
        out.mux(stream.encode())
    return path
