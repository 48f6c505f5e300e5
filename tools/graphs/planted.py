"""Boxes at known places, for models that find them whatever they see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BEST, WORST = 0.9, 0.5
_FILLED = 0.6
"""Of a cell's side: boxes of neighbouring cells do not touch, so suppression keeps them all."""


@dataclass(frozen=True, slots=True)
class Planted:
    """So many objects, each found `copies` times: a raw head gives several rows an object.

    The copies of an object differ by a hundredth of its side: suppression leaves the best one, which is exact.
    """

    count: int = 0
    copies: int = 1

    def rows(self, width: int, height: int, classes: int) -> NDArray[np.float32]:
        """The objects as an end-to-end head gives them: float32 [count, 6], x1, y1, x2, y2, score, class.

        They stand on a square grid over the middle half of the input, which a letterbox leaves to the picture unless
        that is twice as long as wide. Scores fall from 0.9 to 0.5.
        """
        side = max(1, math.ceil(math.sqrt(self.count)))
        number = np.arange(self.count)
        centre = np.stack(
            [
                width / 4 + (number % side + 0.5) * width / 2 / side,
                height / 4 + (number // side + 0.5) * height / 2 / side,
            ],
            axis=1,
        )
        half = np.array([width, height]) * _FILLED / side / 4
        scores = np.linspace(BEST, WORST, self.count) if self.count > 1 else np.full(self.count, BEST)
        columns = [centre - half, centre + half, scores[:, None], (number % classes)[:, None]]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def candidates(self, width: int, height: int, classes: int) -> NDArray[np.float32]:
        """All rows before suppression: float32 [count * copies, 6], an object's copies one after another."""
        rows = np.repeat(self.rows(width, height, classes), self.copies, axis=0)
        copy = np.tile(np.arange(self.copies), self.count)[:, None]
        sides = rows[:, 2:4] - rows[:, :2]
        shift = np.tile(sides, 2) * 0.01 * copy / max(1, self.copies)
        return np.concatenate(
            [rows[:, :4] + shift, rows[:, 4:5] - 0.01 * copy / max(1, self.copies), rows[:, 5:]], axis=1
        ).astype(np.float32)

    def places(self, lines: int) -> NDArray[np.int64]:
        """Which of a head's `lines` hold the candidates: spread evenly over all levels.

        Raises ValueError when there are fewer lines than candidates.
        """
        wanted = self.count * self.copies
        if wanted > lines:
            raise ValueError(f"{wanted} boxes do not fit into a head of {lines} lines")
        return (np.arange(wanted) * lines) // max(1, wanted)
