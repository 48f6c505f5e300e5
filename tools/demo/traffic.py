"""Who is in a street, where they walk or drive, and what stands in front of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np

from tools.demo.backdrop import Layout
from tools.demo.people import Person, random_person
from tools.demo.props import Prop, PropKind, random_prop
from tools.demo.vehicles import Vehicle, random_vehicle

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody on a straight path, there again when the path is done.

    Along the street (`across` false) the path is `span` metres long about the middle of
    the picture, at row `row`; across it, it runs from kerb to kerb at column `column`.
    Speeds in metres per second; positive is to the right, or towards the viewer.
    """

    person: Person | None
    vehicle: Vehicle | None
    speed: float
    start: float
    span: float
    row: float
    phase: float
    facing: float
    across: bool = False
    column: float = 0.0

    @property
    def label(self) -> int:
        """Class index: 0 person, 1 vehicle."""
        return 0 if self.vehicle is None else 1

    @property
    def footprint(self) -> float:
        """Width of the shadow on the ground, in metres."""
        return 0.75 if self.vehicle is None else self.vehicle.length

    def travelled(self, seconds: float) -> float:
        """Metres gone since the start, never negative."""
        return abs(self.speed) * seconds

    def _along(self, seconds: float) -> float:
        return self.start + self.speed * seconds

    def lap(self, seconds: float) -> int:
        """How often the path has been done: the same actor comes back as a new object."""
        return abs(floor(self._along(seconds) / self.span))

    def ground(self, seconds: float, lay: Layout) -> Point | None:
        """Frame pixel this actor stands on; None while it is not in the street."""
        at = self._along(seconds) % self.span
        if not self.across:
            return 0.5 * lay.width + (at - 0.5 * self.span) * lay.scale(self.row), self.row
        share = at / self.span
        if share > 0.8:  # stays away for a while before coming again
            return None
        top, bottom = lay.kerb_far - 0.35 * (lay.kerb_far - lay.wall), lay.height * 1.12
        near = 1.0 - share / 0.8
        # Even steps on the ground: one over the distance is linear in the row.
        far_scale, near_scale = lay.scale(top), lay.scale(bottom)
        scale = 1.0 / (1.0 / near_scale + near * (1.0 / far_scale - 1.0 / near_scale))
        row = lay.horizon + scale * lay.camera
        middle = 0.5 * lay.width
        return middle + (self.column - middle) * scale / lay.scale(lay.kerb_near), row


def _walkers(rng: np.random.Generator, lay: Layout, count: int) -> list[Actor]:
    people: list[Actor] = []
    while len(people) < count:
        kind = rng.random()
        pace = float(rng.uniform(0.8, 1.7))
        way = 1.0 if rng.random() < 0.5 else -1.0
        if kind < 0.22:
            length = float(rng.uniform(14, 20))
            column = lay.width * float(rng.uniform(0.15, 0.85))
            if lay.crossing is not None:
                column = lay.crossing + float(rng.uniform(-1.2, 1.2)) * lay.scale(lay.kerb_near)
            people.append(
                Actor(random_person(rng), None, way * pace, float(rng.uniform(0, length)), length, 0.0,
                      float(rng.uniform(0, 6.3)), way * float(rng.uniform(0.0, 0.3)), True, column)
            )  # fmt: skip
            continue
        if kind < 0.55:
            row = float(rng.uniform(lay.wall + 0.25 * (lay.kerb_far - lay.wall), lay.kerb_far - 1))
        else:
            row = float(rng.uniform(lay.kerb_near + 2, 1.07 * lay.height))
        span = lay.width / lay.scale(row) + float(rng.uniform(2, 8))
        start = float(rng.uniform(0, span))
        standing = rng.random() < 0.13
        facing = way * float(rng.uniform(0.75, 1.0))
        for member in range(2 if rng.random() < 0.25 else 1):
            looks = random_person(rng)
            beside = start + member * float(rng.uniform(0.25, 0.8)), row + member * float(rng.uniform(-2, 3))
            phase = float(rng.uniform(0, 6.3))
            turned = facing if not standing else float(rng.uniform(-1, 1))
            speed = 0.0 if standing else way * pace
            people.append(Actor(looks, None, speed, beside[0], span, beside[1], phase, turned))
    return people[:count]


def _drivers(rng: np.random.Generator, lay: Layout, count: int) -> list[Actor]:
    cars: list[Actor] = []
    swap = rng.random() < 0.5
    for lane in range(lay.lanes):
        share = count // lay.lanes + (1 if lane < count % lay.lanes else 0)
        if share == 0:
            continue
        row = lay.lane_row(lane)
        way = -1.0 if (lane < (lay.lanes + 1) // 2) != swap else 1.0
        parked = lane == 0 and lay.lanes > 1 and rng.random() < 0.2
        speed = 0.0 if parked else way * float(rng.uniform(2.0, 9.0))
        # One speed per lane and room for each: cars of a lane never drive into one another.
        room = 8.5 if not parked else 7.2
        span = max(lay.width / lay.scale(row) + float(rng.uniform(5, 14)), share * room)
        first = float(rng.uniform(0, span))
        for i in range(share):
            start = first + i * span / share + float(rng.uniform(-0.15, 0.15)) * (span / share - 7.0)
            cars.append(Actor(None, random_vehicle(rng), speed, start, span, row, 0.0, way))
    return cars


def random_actors(rng: np.random.Generator, lay: Layout) -> list[Actor]:
    """Draw everybody in the street: up to a dozen people and half as many vehicles."""
    people = int(rng.integers(0, 12)) if rng.random() < 0.3 else int(rng.integers(3, 9))
    vehicles = int(rng.integers(0, 3 * lay.lanes + 1))
    return _walkers(rng, lay, people) + _drivers(rng, lay, vehicles)


def place_props(rng: np.random.Generator, lay: Layout) -> list[tuple[Prop, Point]]:
    """Draw what stands along both kerbs and, seldom, right in front of the camera."""
    placed: list[tuple[Prop, Point]] = []
    far: tuple[PropKind, ...] = ("lamp", "tree", "bin", "sign", "bench", "bush")
    near: tuple[PropKind, ...] = ("lamp", "sign", "bin", "bollard", "bush", "bench", "tree")
    for _ in range(int(rng.integers(1, 6))):
        row = lay.kerb_far - float(rng.uniform(0.05, 0.3)) * (lay.kerb_far - lay.wall)
        placed.append((random_prop(rng, far), (float(rng.uniform(0, lay.width)), row)))
    for _ in range(int(rng.integers(0, 4))):
        row = lay.kerb_near + float(rng.uniform(0.1, 0.9)) * (lay.height - lay.kerb_near)
        placed.append((random_prop(rng, near), (float(rng.uniform(0, lay.width)), row)))
    if rng.random() < 0.35:
        row = lay.height * float(rng.uniform(1.06, 1.2))
        placed.append((random_prop(rng, ("bush", "lamp", "sign")), (float(rng.uniform(0, lay.width)), row)))
    return placed
