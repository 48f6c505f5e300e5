"""Things that stand in the street: they hide what is behind them and are never counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tools.demo.canvas import Canvas, Colour, Point, Sprite, shade

PropKind = Literal["lamp", "tree", "bush", "bin", "sign", "bench", "bollard"]
_KINDS: tuple[PropKind, ...] = ("lamp", "tree", "bush", "bin", "sign", "bench", "bollard")
_LEAVES: tuple[Colour, ...] = ((62, 124, 70), (50, 104, 58), (74, 140, 98), (60, 130, 128), (66, 116, 96))
_SIGNS: tuple[Colour, ...] = ((60, 50, 190), (170, 100, 40), (70, 150, 80), (60, 180, 220))


@dataclass(frozen=True, slots=True)
class Prop:
    """The looks of one piece of street furniture; `size` scales it (1 = usual)."""

    kind: PropKind
    size: float
    colour: Colour
    seed: int


def random_prop(rng: np.random.Generator, kinds: tuple[PropKind, ...] = _KINDS) -> Prop:
    """Draw the looks of a prop of one of the given kinds."""
    kind = kinds[int(rng.integers(len(kinds)))]
    palette = _LEAVES if kind in ("tree", "bush") else _SIGNS
    colour = shade(palette[int(rng.integers(len(palette)))], float(rng.uniform(0.8, 1.2)))
    return Prop(kind, float(rng.uniform(0.85, 1.2)), colour, int(rng.integers(1 << 31)))


def _leaves(
    canvas: Canvas, rng: np.random.Generator, centre: Point, rx: float, ry: float, colour: Colour
) -> None:
    """Fill an ellipse with clumps of leaves, light from above left."""
    for layer, light in enumerate((0.72, 0.88, 1.0, 1.16)):
        for _ in range(14):
            angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1)) * (1.0 - 0.16 * layer)
            x = centre[0] + rx * (reach * np.cos(angle) - 0.08 * layer)
            y = centre[1] + ry * (reach * np.sin(angle) + 0.1 * layer)
            blob = float(rng.uniform(0.2, 0.34)) * min(rx, ry) * (1.0 - 0.12 * layer)
            canvas.ellipse(
                (float(x), float(y)), blob * 1.15, blob, shade(colour, light * float(rng.uniform(0.94, 1.06)))
            )


def draw_prop(prop: Prop, ground: Point, pixels_per_metre: float) -> Sprite:
    """Draw a prop standing at `ground` (frame pixels)."""
    rng = np.random.default_rng(prop.seed)
    s = prop.size
    metal: Colour = (76, 72, 68)
    extents = {
        "lamp": (0.4, 1.5, 0.1, 5.6), "tree": (2.1, 2.1, 0.1, 6.4), "bush": (1.5, 1.5, 0.15, 1.5),
        "bin": (0.5, 0.5, 0.1, 1.3), "sign": (0.6, 0.6, 0.1, 3.2), "bench": (1.2, 1.2, 0.1, 1.2),
        "bollard": (0.3, 0.3, 0.1, 1.2),
    }  # fmt: skip
    left, right, down, up = (s * e for e in extents[prop.kind])
    canvas = Canvas(ground, pixels_per_metre, (left, right, down, up))
    match prop.kind:
        case "lamp":
            canvas.rectangle(-0.16 * s, 0, 0.16 * s, 0.5 * s, shade(metal, 0.8))
            canvas.limb([(0, 0), (0, 5.0 * s), (0.25 * s, 5.3 * s), (1.1 * s, 5.3 * s)], 0.14 * s, metal)
            canvas.limb([(0.7 * s, 5.25 * s), (1.25 * s, 5.25 * s)], 0.16 * s, (190, 220, 226))
        case "tree":
            canvas.limb([(0, 0), (0.05 * s, 3.0 * s)], 0.32 * s, (58, 76, 96))
            canvas.limb([(-0.07 * s, 0), (-0.03 * s, 3.0 * s)], 0.1 * s, (72, 92, 114))
            _leaves(canvas, rng, (0, 4.4 * s), 1.5 * s, 1.45 * s, prop.colour)
        case "bush":
            _leaves(canvas, rng, (0, 0.55 * s), 1.1 * s, 0.6 * s, prop.colour)
        case "bin":
            canvas.polygon(
                [(-0.26 * s, 0), (0.26 * s, 0), (0.32 * s, 0.95 * s), (-0.32 * s, 0.95 * s)], prop.colour
            )
            canvas.limb([(-0.3 * s, 0.98 * s), (0.3 * s, 0.98 * s)], 0.12 * s, shade(prop.colour, 0.6))
        case "sign":
            canvas.limb([(0, 0), (0, 2.6 * s)], 0.09 * s, (150, 150, 150))
            canvas.ellipse((0, 2.7 * s), 0.36 * s, 0.36 * s, prop.colour)
            canvas.ellipse((0, 2.7 * s), 0.25 * s, 0.25 * s, (232, 232, 232))
        case "bench":
            wood: Colour = (70, 104, 146)
            for x in (-0.75 * s, 0.75 * s):
                canvas.limb([(x, 0), (x, 0.85 * s)], 0.09 * s, metal)
            for y in (0.45, 0.66, 0.84):
                canvas.limb([(-0.95 * s, y * s), (0.95 * s, y * s)], 0.11 * s, shade(wood, 0.8 + 0.25 * y))
        case "bollard":
            canvas.limb([(0, 0.05 * s), (0, 0.85 * s)], 0.2 * s, metal)
            canvas.limb([(0, 0.62 * s), (0, 0.7 * s)], 0.2 * s, (210, 214, 216))
    return canvas.finish()
