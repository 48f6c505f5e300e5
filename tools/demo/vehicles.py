"""Vehicles: what one looks like and how one is drawn from the side."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Literal

import numpy as np

from tools.demo.canvas import Canvas, Colour, Point, Sprite, mix, shade

Kind = Literal["hatch", "saloon", "suv", "pickup", "van", "truck"]

PAINT: tuple[Colour, ...] = (
    (52, 48, 178), (158, 96, 40), (206, 208, 210), (62, 60, 58), (150, 150, 154), (70, 150, 210),
    (96, 120, 60), (60, 190, 236), (120, 60, 70), (196, 170, 120), (230, 232, 236), (36, 84, 150),
)  # fmt: skip
GLASS: Colour = (104, 82, 66)

# Length and height in metres, then the roof line as shares of the length (from the tail) and height.
_ROOF: dict[Kind, tuple[float, float, tuple[Point, ...]]] = {
    "hatch": (3.9, 1.5, ((0.03, 0.56), (0.13, 0.97), (0.52, 1.0), (0.72, 0.62))),
    "saloon": (4.7, 1.45, ((0.17, 0.62), (0.31, 0.98), (0.55, 1.0), (0.72, 0.62))),
    "suv": (4.7, 1.8, ((0.02, 0.58), (0.07, 0.97), (0.56, 1.0), (0.71, 0.62))),
    "pickup": (5.2, 1.8, ((0.40, 0.56), (0.42, 0.98), (0.63, 1.0), (0.75, 0.60))),
    "van": (5.2, 2.2, ((0.01, 0.5), (0.02, 0.98), (0.72, 1.0), (0.88, 0.58))),
    "truck": (6.6, 2.9, ((0.74, 0.45), (0.745, 0.80), (0.90, 0.80), (0.97, 0.5))),
}
_WEIGHTS = (0.24, 0.24, 0.18, 0.09, 0.17, 0.08)


@dataclass(frozen=True, slots=True)
class Vehicle:
    """The looks of one vehicle; length and height in metres."""

    kind: Kind
    length: float
    height: float
    paint: Colour
    second: Colour
    stripe: bool
    roof_rack: bool


def random_vehicle(rng: np.random.Generator) -> Vehicle:
    """Draw the looks of a vehicle."""
    kind = tuple(_ROOF)[int(rng.choice(len(_WEIGHTS), p=_WEIGHTS))]
    length, height, _ = _ROOF[kind]
    paint, second = (PAINT[int(i)] for i in rng.integers(len(PAINT), size=2))
    chances = rng.random(2)
    return Vehicle(
        kind=kind,
        length=length * float(rng.uniform(0.93, 1.1)),
        height=height * float(rng.uniform(0.94, 1.08)),
        paint=shade(paint, float(rng.uniform(0.85, 1.12))),
        second=second,
        stripe=bool(chances[0] < 0.3),
        roof_rack=bool(chances[1] < 0.2 and kind in ("hatch", "suv", "van")),
    )


def _wheel(canvas: Canvas, centre: Point, radius: float, turn: float) -> None:
    x, y = centre
    canvas.ellipse(centre, radius, radius, (34, 32, 32))
    canvas.ellipse(centre, 0.62 * radius, 0.62 * radius, (172, 170, 168))
    for spoke in range(5):
        angle = turn + spoke * 2 * pi / 5
        tip = (x + 0.56 * radius * cos(angle), y + 0.56 * radius * sin(angle))
        canvas.limb([centre, tip], 0.16 * radius, (96, 94, 92))
    canvas.ellipse(centre, 0.16 * radius, 0.16 * radius, (60, 58, 58))


def _cabin(canvas: Canvas, vehicle: Vehicle, roof: list[Point], sill: float) -> None:
    """Draw roof, panes and pillars within the given roof line (metres)."""
    canvas.polygon([(roof[0][0], sill), *roof, (roof[-1][0], sill)], shade(vehicle.paint, 0.92))
    rear, front = roof[0][0], roof[-1][0]
    top = roof[1][1] - 0.09 * vehicle.height
    low = max(roof[0][1], roof[-1][1]) + 0.01 * vehicle.height
    inset = 0.02 * vehicle.length
    if vehicle.kind == "van":
        rear = roof[0][0] + 0.52 * vehicle.length
        panes = [(rear, low), (rear, top), (roof[2][0], top), (front - inset, low)]
    else:
        panes = [
            (rear + 2 * inset, low),
            (roof[1][0] + inset, top),
            (roof[2][0] - 0.3 * inset, top),
            (front - 1.6 * inset, low),
        ]
    canvas.polygon(panes, GLASS)
    (xa, ya), (xb, yb) = panes[0], panes[1]
    (xc, yc), (xd, yd) = panes[2], panes[3]
    shine = 0.55
    canvas.polygon(
        [
            (xc - 0.25 * (xc - xb), yc),
            (xc - 0.05 * (xc - xb), yc),
            (xd - 0.35 * (xd - xa), yd),
            (xd - 0.55 * (xd - xa), yd),
        ],
        mix(GLASS, (238, 226, 214), shine),
    )
    if vehicle.kind != "truck":
        for share in (0.5,) if vehicle.kind in ("hatch", "pickup", "van") else (0.36, 0.68):
            low_x, top_x = xa + share * (xd - xa), xb + share * (xc - xb)
            canvas.limb([(low_x, ya), (top_x, yb)], 0.022 * vehicle.length, shade(vehicle.paint, 0.8))


def _car_body(canvas: Canvas, vehicle: Vehicle, roof: list[Point], floor: float) -> None:
    length, half = vehicle.length, 0.5 * vehicle.length
    nose, tail = roof[-1][1], roof[0][1]
    outline = [
        (-half + 0.03, floor), (half - 0.05, floor), (half, floor + 0.18), (half - 0.03 * length, 0.9 * nose),
        roof[-1], roof[0], (-half + 0.02, tail), (-half, floor + 0.2),
    ]  # fmt: skip
    canvas.polygon(outline, vehicle.paint)


def _truck_body(canvas: Canvas, vehicle: Vehicle, roof: list[Point], floor: float) -> None:
    """Draw the box behind and the cab in front."""
    half, height = 0.5 * vehicle.length, vehicle.height
    canvas.rectangle(-half, floor + 0.25, half * 0.42, floor + 0.5, (58, 56, 56))
    canvas.rectangle(-half, floor + 0.5, half * 0.44, height, vehicle.second)
    canvas.rectangle(-half, 0.9 * height, half * 0.44, height, shade(vehicle.second, 1.15))
    if vehicle.stripe:
        canvas.rectangle(-half, 0.5 * height, half * 0.44, 0.6 * height, vehicle.paint)
    back = half * 0.47
    cab = [(back, floor), (half, floor), (half, 0.4 * height), roof[-1], roof[0], (back, roof[-1][1])]
    canvas.polygon(cab, vehicle.paint)


def _trim(canvas: Canvas, vehicle: Vehicle, roof: list[Point], floor: float) -> None:
    """Draw what lies on the body: sill, stripe, doors with handles, roof rack."""
    length, half, height, paint = vehicle.length, 0.5 * vehicle.length, vehicle.height, vehicle.paint
    nose = roof[-1][1]
    start = -half + 0.02 if vehicle.kind != "truck" else half * 0.47
    canvas.rectangle(start, floor, half - 0.04, floor + 0.13 * height, shade(paint, 0.72))
    if vehicle.stripe and vehicle.kind != "truck":
        low = 0.42 * nose + 0.1
        canvas.rectangle(start, low, half - 0.08, low + 0.1, mix(paint, vehicle.second, 0.8))
    if vehicle.kind in ("hatch", "saloon", "suv"):
        for x in (-0.04 * length, 0.17 * length):
            canvas.limb([(x, floor + 0.15), (x, nose)], 0.02, shade(paint, 0.7))
            canvas.limb([(x - 0.28, 0.82 * nose), (x - 0.12, 0.82 * nose)], 0.05, shade(paint, 0.6))
    elif vehicle.kind == "van":
        canvas.limb([(0.02 * length, floor + 0.2), (0.02 * length, 0.9 * height)], 0.025, shade(paint, 0.72))
    if vehicle.roof_rack:
        rail, back, front = (50, 50, 52), roof[1][0], roof[2][0]
        canvas.limb([(back + 0.1, 1.04 * height), (front - 0.1, 1.04 * height)], 0.06, rail)
        for x in (back + 0.3, front - 0.3):
            canvas.limb([(x, 0.98 * height), (x, 1.04 * height)], 0.05, rail)


def draw_vehicle(
    vehicle: Vehicle, ground: Point, pixels_per_metre: float, travelled: float, facing: float, lit: bool
) -> Sprite:
    """Draw a vehicle whose middle stands at `ground` (frame pixels).

    `travelled`: metres, turns the wheels. `facing`: -1 left, 1 right. `lit`: lamps on.
    """
    length, height = vehicle.length, vehicle.height
    half = 0.5 * length
    extent = (half + 0.2, half + 0.2, 0.05, height * 1.12 + 0.1)
    canvas = Canvas(ground, pixels_per_metre, extent, mirrored=facing < 0)
    truck = vehicle.kind == "truck"
    radius = 0.42 if truck else 0.3335
    floor = 0.62 * radius
    roof = [(-half + x * length, y * height) for x, y in _ROOF[vehicle.kind][2]]
    nose = roof[-1][1]
    tail = 0.3 * height if truck else roof[0][1]

    (_truck_body if truck else _car_body)(canvas, vehicle, roof, floor)
    _cabin(canvas, vehicle, roof, min(nose, roof[0][1]) - 0.02)
    _trim(canvas, vehicle, roof, floor)
    for share in (0.19, 0.81):
        hub = (-half + share * length, radius)
        canvas.ellipse(hub, 1.22 * radius, 1.2 * radius, shade(vehicle.paint, 0.42))
        _wheel(canvas, hub, radius, -travelled / radius)
    headlamp: Colour = (214, 248, 255) if lit else (196, 212, 220)
    canvas.ellipse((half - 0.1, 0.74 * min(nose, 0.5 * height) + 0.08), 0.13, 0.1, headlamp)
    canvas.ellipse((-half + 0.06, 0.85 * tail), 0.07, 0.14, (60, 60, 240) if lit else (48, 44, 170))
    return canvas.finish()
