"""The street without anybody in it: sky, houses, pavements, road and lane marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.demo.canvas import Colour, mix, shade

_WALLS: tuple[Colour, ...] = (
    (150, 176, 206), (120, 140, 196), (176, 190, 196), (128, 168, 186), (186, 176, 158), (110, 124, 150),
    (160, 196, 222), (150, 150, 148), (96, 110, 158), (190, 204, 214),
)  # fmt: skip
_AWNINGS: tuple[Colour, ...] = ((60, 60, 180), (90, 130, 60), (150, 100, 50), (70, 160, 210))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in the picture: rows in pixels, `camera` in metres above ground.

    A row `y` on the ground shows `(y - horizon) / camera` pixels per metre, so what
    is nearer is lower and larger.
    """

    width: int
    height: int
    horizon: float
    wall: float
    kerb_far: float
    kerb_near: float
    camera: float
    lanes: int
    crossing: float | None

    def scale(self, y: float) -> float:
        """Pixels per metre for something standing on row `y`."""
        return (y - self.horizon) / self.camera

    def lane_row(self, lane: int) -> float:
        """Row the wheels of lane `lane` (0 = farthest) stand on."""
        road = self.kerb_near - self.kerb_far
        return self.kerb_far + road * ((lane + 0.62) / self.lanes)


def random_layout(rng: np.random.Generator, width: int, height: int) -> Layout:
    """Draw the geometry of a street."""
    wall = height * float(rng.uniform(0.36, 0.52))
    horizon = min(height * float(rng.uniform(0.02, 0.28)), wall - 0.2 * height)
    kerb_far = wall + height * float(rng.uniform(0.05, 0.10))
    kerb_near = height * float(rng.uniform(0.78, 0.90))
    near_person = height * float(rng.uniform(0.24, 0.42))
    camera = (0.92 * height - horizon) * 1.72 / near_person
    lanes = int(rng.choice([1, 2, 3], p=[0.12, 0.7, 0.18]))
    crossing = width * float(rng.uniform(0.2, 0.8)) if rng.random() < 0.55 else None
    return Layout(width, height, horizon, wall, kerb_far, kerb_near, camera, lanes, crossing)


class _Painter:
    """Fills shapes given in frame pixels on an image twice as large."""

    def __init__(self, width: int, height: int) -> None:
        self.image: NDArray[np.uint8] = np.zeros((2 * height, 2 * width, 3), np.uint8)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        fixed = np.round(np.asarray(points) * 2 * 16).astype(np.int32)
        cv2.fillPoly(self.image, [fixed], colour, cv2.LINE_AA, 4)

    def box(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour)


def _house(
    paint: _Painter,
    rng: np.random.Generator,
    left: float,
    right: float,
    roof: float,
    base: float,
    metre: float,
) -> None:
    wall = shade(_WALLS[int(rng.integers(len(_WALLS)))], float(rng.uniform(0.75, 1.08)))
    paint.box(left, roof, right, base, wall)
    paint.box(left, roof, right, roof + 0.3 * metre, shade(wall, 0.7))
    paint.box(right - 0.12 * metre, roof, right, base, shade(wall, 0.85))
    ground_floor = base - 3.4 * metre
    paint.box(left, ground_floor - 0.12 * metre, right, ground_floor + 0.12 * metre, shade(wall, 0.82))
    frame = mix(wall, (240, 240, 240), float(rng.uniform(0.2, 0.8)))
    glass = shade((122, 100, 84), float(rng.uniform(0.6, 1.2)))
    tall, wide = float(rng.uniform(1.2, 1.7)) * metre, float(rng.uniform(0.8, 1.2)) * metre
    columns = max(1, int((right - left) / (2.0 * wide)))
    step = (right - left) / columns
    row = ground_floor - 0.75 * metre
    while row - tall > roof + 0.3 * metre:
        for column in range(columns):
            x = left + (column + 0.5) * step - 0.5 * wide
            lit = rng.random() < 0.12
            paint.box(
                x - 0.1 * metre, row - tall - 0.1 * metre, x + wide + 0.1 * metre, row + 0.1 * metre, frame
            )
            paint.box(x, row - tall, x + wide, row, (150, 204, 236) if lit else glass)
            paint.box(x + 0.46 * wide, row - tall, x + 0.54 * wide, row, frame)
        row -= tall + 1.1 * metre
    shop = rng.random() < 0.5
    if shop:
        trim = _AWNINGS[int(rng.integers(len(_AWNINGS)))]
        paint.box(
            left + 0.5 * metre, base - 2.4 * metre, right - 0.5 * metre, base - 0.4 * metre, shade(glass, 0.8)
        )
        paint.box(left + 0.5 * metre, base - 2.4 * metre, right - 0.5 * metre, base - 2.2 * metre, frame)
        count = max(2, int((right - left) / metre))
        for i in range(count):
            a, b = left + (right - left) * i / count, left + (right - left) * (i + 1) / count
            paint.box(a, base - 3.1 * metre, b, base - 2.4 * metre, trim if i % 2 else (226, 228, 230))
    door = left + float(rng.uniform(0.1, 0.75)) * (right - left)
    paint.box(door - 0.1 * metre, base - 2.3 * metre, door + 1.1 * metre, base, frame)
    paint.box(door, base - 2.2 * metre, door + metre, base, shade(_AWNINGS[int(rng.integers(4))], 0.6))
    if not shop:
        for share in (0.15, 0.55, 0.85):
            x = left + share * (right - left)
            if abs(x - door) > 2.2 * metre:
                paint.box(
                    x - 0.1 * metre, base - 2.3 * metre, x + wide + 0.1 * metre, base - 0.8 * metre, frame
                )
                paint.box(x, base - 2.2 * metre, x + wide, base - 0.9 * metre, glass)


def _ground(paint: _Painter, rng: np.random.Generator, lay: Layout) -> None:
    tone = float(rng.uniform(0.8, 1.15))
    slab = shade(mix((168, 174, 178), (150, 170, 196), float(rng.uniform(0, 1))), tone)
    road = shade(mix((92, 88, 86), (104, 104, 110), float(rng.uniform(0, 1))), float(rng.uniform(0.75, 1.2)))
    w, h = float(lay.width), float(lay.height)
    paint.box(0, lay.wall, w, lay.kerb_far, slab)
    paint.box(0, lay.kerb_far, w, lay.kerb_near, road)
    paint.box(0, lay.kerb_near, w, h, shade(slab, 1.05))
    middle = w * float(rng.uniform(0.3, 0.7))

    def seen(x: float, from_row: float, row: float) -> float:
        """Column on `row` of a line on the ground that runs away from the viewer."""
        return middle + (x - middle) * (row - lay.horizon) / (from_row - lay.horizon)

    for top, bottom, step in ((lay.wall, lay.kerb_far, 1.6), (lay.kerb_near, h, 1.2)):
        gap = step * lay.scale(bottom)
        for i in range(-60, 61):
            x = middle + i * gap
            if -gap < x < w + gap or -gap < seen(x, bottom, top) < w + gap:
                paint.polygon(
                    [
                        (x, bottom),
                        (x + 1.2, bottom),
                        (seen(x, bottom, top) + 0.8, top),
                        (seen(x, bottom, top), top),
                    ],
                    shade(slab, 0.86),
                )
    row = lay.kerb_near
    while row < h:
        row += max(6.0, 0.55 * lay.scale(row))
        paint.box(0, row, w, row + 1.0, shade(slab, 0.88))
    for kerb in (lay.kerb_far, lay.kerb_near):
        thick = max(2.0, 0.14 * lay.scale(kerb))
        paint.box(0, kerb - thick, w, kerb, shade(slab, 1.18))
        paint.box(0, kerb, w, kerb + 0.6 * thick, shade(slab, 0.62))
    white = (206, 210, 212)
    if lay.crossing is not None:
        bars = 7
        for i in range(bars):
            top = lay.kerb_far + (lay.kerb_near - lay.kerb_far) * (i + 0.22) / bars
            bottom = top + (lay.kerb_near - lay.kerb_far) * 0.52 / bars
            half_top, half_bottom = 1.7 * lay.scale(top), 1.7 * lay.scale(bottom)
            x_top = seen(lay.crossing, lay.kerb_near, top)
            x_bottom = seen(lay.crossing, lay.kerb_near, bottom)
            paint.polygon(
                [
                    (x_top - half_top, top),
                    (x_top + half_top, top),
                    (x_bottom + half_bottom, bottom),
                    (x_bottom - half_bottom, bottom),
                ],
                white,
            )
    for lane in range(1, lay.lanes):
        y = lay.kerb_far + (lay.kerb_near - lay.kerb_far) * lane / lay.lanes
        thick, dash = max(1.6, 0.13 * lay.scale(y)), 2.2 * lay.scale(y)
        x = -dash * float(rng.uniform(0, 2))
        while x < w:
            if lay.crossing is None or abs(
                x + dash / 2 - seen(lay.crossing, lay.kerb_near, y)
            ) > 2.9 * lay.scale(y):
                paint.polygon([(x, y), (x + dash, y), (x + dash, y + thick), (x, y + thick)], white)
            x += 2 * dash


def paint_backdrop(rng: np.random.Generator, lay: Layout) -> NDArray[np.float32]:
    """Paint the empty street: float32 [height, width, 3], BGR 0..255."""
    paint = _Painter(lay.width, lay.height)
    sky = mix((226, 190, 150), (206, 206, 204), float(rng.uniform(0, 1)))
    for band in range(40):
        y = lay.wall * band / 40
        paint.box(0, y, lay.width, y + lay.wall / 40 + 1, mix(sky, (238, 234, 228), band / 40))
    metre = lay.scale(lay.wall)
    for layer in (0, 1):  # a pale row of roofs behind the houses, then the houses
        x = -float(rng.uniform(0, 6)) * metre
        while x < lay.width:
            right = x + float(rng.uniform(6, 13)) * metre
            roof = lay.wall - float(rng.uniform(6.0, 16.0)) * metre
            if layer == 0:
                haze = mix((190, 180, 172), sky, float(rng.uniform(0.2, 0.5)))
                paint.box(x, roof - 2 * metre, right, lay.wall, haze)
            elif rng.random() < 0.86:
                _house(paint, rng, x, right, roof, lay.wall, metre)
            else:  # a gap with a hedge
                paint.box(x, lay.wall - 1.3 * metre, right, lay.wall, (66, 110, 74))
            x = right
    _ground(paint, rng, lay)
    small: Any = cv2.resize(paint.image, (lay.width, lay.height), interpolation=cv2.INTER_AREA)
    coarse = rng.normal(0, 1, (lay.height // 6 + 1, lay.width // 6 + 1)).astype(np.float32)
    fine = rng.normal(0, 1, (lay.height, lay.width)).astype(np.float32)
    grain = cv2.resize(coarse, (lay.width, lay.height), interpolation=cv2.INTER_CUBIC) * 1.6 + fine * 2.2
    painted: NDArray[np.float32] = np.clip(small.astype(np.float32) + grain[..., None], 0, 255)
    return painted
