"""What the shipped demo clip is made from: tests render it again for its truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tools.demo.scene import Truth, render_scene

SEED = 712
FRAMES = 250
SIZE = (640, 360)
FPS = 25
CRF = 21
# Stronger than the seed draws it: a change of light should be seen within ten seconds.
LIGHT = {"drift": 0.17, "cloud_depth": 0.42}


def shipped_clip(frames: int = FRAMES) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    """Yield the first frames (BGR uint8) of the shipped clip, before encoding, with their truth."""
    return render_scene(SEED, frames, SIZE, FPS, light=LIGHT)
