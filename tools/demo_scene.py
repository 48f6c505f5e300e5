"""Renders a street scene as an H.264 clip, with the truth of every frame as JSON.

Without options it renders the shipped demo clip.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.demo import shipped
from tools.demo.clip import write_clip, write_truth
from tools.demo.scene import Truth, render_scene


def main() -> None:
    """Render one clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path, help="MP4 to write")
    parser.add_argument("--truth", type=Path, help="JSON to write")
    parser.add_argument("--seed", type=int, help="another scene than the shipped one, in its own light")
    parser.add_argument("--frames", type=int, default=shipped.FRAMES)
    parser.add_argument("--first", type=int, default=0, help="first frame of the scene to take")
    parser.add_argument("--size", type=int, nargs=2, default=shipped.SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--fps", type=int, default=shipped.FPS)
    parser.add_argument("--crf", type=int, default=shipped.CRF, help="quality: lower is better and larger")
    asked = parser.parse_args()
    size = (asked.size[0], asked.size[1])
    seed, light = (shipped.SEED, shipped.LIGHT) if asked.seed is None else (asked.seed, None)
    truths: list[list[Truth]] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for frame, truth in render_scene(seed, asked.frames, size, asked.fps, asked.first, light=light):
            truths.append(truth)
            yield frame

    write_clip(asked.clip, frames(), size, asked.fps, asked.crf)
    if asked.truth:
        write_truth(asked.truth, truths, size, asked.fps, seed)
    counted = np.mean([sum(not t.ignore for t in truth) for truth in truths])
    bytes_written = asked.clip.stat().st_size
    print(f"{asked.clip}: {len(truths)} frames, {bytes_written} bytes, {counted:.1f} objects a frame")


if __name__ == "__main__":
    main()
