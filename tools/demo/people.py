"""People: what one looks like and how one is drawn at a given moment of its stride."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from tools.demo.canvas import Canvas, Colour, Point, Sprite, mix, shade

SKIN: tuple[Colour, ...] = ((172, 200, 236), (140, 176, 222), (96, 134, 190), (66, 96, 148), (48, 66, 104))
HAIR: tuple[Colour, ...] = (
    (24, 24, 28),
    (32, 48, 74),
    (52, 88, 132),
    (96, 160, 206),
    (150, 152, 156),
    (40, 60, 140),
)
CLOTH: tuple[Colour, ...] = (
    (60, 58, 190), (176, 112, 52), (84, 146, 70), (58, 178, 226), (206, 196, 186), (58, 54, 52),
    (150, 80, 128), (168, 160, 70), (92, 122, 232), (228, 228, 232), (112, 72, 44), (74, 108, 148),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = (
    (112, 76, 50),
    (54, 50, 48),
    (88, 88, 92),
    (84, 110, 140),
    (60, 76, 60),
    (150, 160, 172),
)


@dataclass(frozen=True, slots=True)
class Person:
    """The looks of one person; lengths in metres, widths as a share of the height."""

    height: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    long_hair: bool
    skirt: bool
    coat: bool
    hat: bool
    backpack: bool
    bag: bool

    @property
    def stride(self) -> float:
        """Metres walked in one full swing of both legs."""
        return 0.82 * self.height


def random_person(rng: np.random.Generator) -> Person:
    """Draw the looks of a person, now and then a child."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        return shade(colours[int(rng.integers(len(colours)))], float(rng.uniform(0.8, 1.15)))

    child = rng.random() < 0.14
    chances = rng.random(6)
    return Person(
        height=float(rng.uniform(1.1, 1.4) if child else rng.normal(1.72, 0.08)),
        girth=float(rng.uniform(0.9, 1.25)),
        skin=pick(SKIN),
        hair=pick(HAIR),
        top=pick(CLOTH),
        bottom=pick(TROUSERS),
        long_hair=bool(chances[0] < 0.35),
        skirt=bool(chances[1] < 0.2),
        coat=bool(chances[2] < 0.25),
        hat=bool(chances[3] < 0.15),
        backpack=bool(chances[4] < 0.2),
        bag=bool(chances[5] < 0.2),
    )


def draw_person(
    person: Person, ground: Point, pixels_per_metre: float, phase: float, facing: float, pace: float = 1.0
) -> Sprite:
    """Draw a person with the feet at `ground` (frame pixels).

    `phase`: radians within the stride. `facing`: -1 left, 1 right, 0 towards or
    away from the viewer. `pace`: 0 standing .. 1 walking.
    """
    figure = _Figure(person, ground, pixels_per_metre, phase, facing, pace)
    if person.backpack:
        figure.backpack()
    # The far arm and leg first: the body and the near ones lie over them.
    figure.arm(near=False)
    figure.leg(near=False)
    figure.leg(near=True)
    figure.torso()
    figure.arm(near=True)
    figure.head()
    return figure.canvas.finish()


class _Figure:
    """One person in one pose, on a canvas of its own; all lengths in metres."""

    def __init__(
        self, person: Person, ground: Point, scale: float, phase: float, facing: float, pace: float
    ) -> None:
        h = self.h = person.height
        self.person, self.side = person, abs(facing)
        extent = (0.5 * h, 0.5 * h, 0.06 * h, 1.08 * h)
        self.canvas = Canvas(ground, scale, extent, mirrored=facing < 0)
        self.thick = person.girth * h
        self.spread = (1.0 - self.side) * 0.055 * h
        self.thigh, self.shin = 0.245 * h, 0.235 * h
        reach = 0.5 * pace * max(self.side, 0.12)
        self.swings = (reach * sin(phase), reach * sin(phase + pi))
        late = 0.15 + 0.5 * pi  # the knee bends while its leg comes forward
        self.bends = tuple(pace * 0.95 * max(0.0, sin(phase + late + other)) for other in (0.0, pi))
        # The straighter leg carries: its foot stays on the ground, so the hip goes up and down.
        drop = min(cos(a) for a in self.swings)
        self.hip = 0.03 * h + self.thigh * drop + self.shin * drop
        self.shoulder = self.hip + 0.335 * h
        self.lean = 0.03 * h * pace * self.side

    def backpack(self) -> None:
        h = self.h
        middle = (self.lean - 0.11 * h * self.side, self.hip + 0.2 * h)
        colour = shade(mix(self.person.top, self.person.hair, 0.8), 0.9)
        self.canvas.ellipse(middle, 0.085 * h, 0.14 * h, colour)

    def arm(self, near: bool) -> None:
        """Draw an arm; it swings against the leg of its side."""
        h, person = self.h, self.person
        offset = self.spread * (-1.7 if near else 1.7)
        swing = -0.8 * self.swings[1 if near else 0]
        shoulder = (self.lean + offset, self.shoulder - 0.03 * h)
        elbow = (shoulder[0] + 0.16 * h * sin(swing) + 0.3 * offset, shoulder[1] - 0.16 * h * cos(swing))
        fore = swing + 0.45 * self.side
        hand = (elbow[0] + 0.15 * h * sin(fore), elbow[1] - 0.15 * h * cos(fore))
        self.canvas.limb(
            [shoulder, elbow, hand], 0.056 * self.thick, shade(person.top, 1.0 if near else 0.72)
        )
        self.canvas.ellipse(hand, 0.024 * h, 0.026 * h, shade(person.skin, 1.0 if near else 0.8))
        if person.bag and near:
            x, y = hand
            bag = (x - 0.07 * h, y - 0.17 * h, x + 0.06 * h, y - 0.03 * h)
            self.canvas.rectangle(*bag, shade(person.bottom, 0.7))

    def leg(self, near: bool) -> None:
        h, person = self.h, self.person
        offset = self.spread * (-0.9 if near else 0.9)
        swing, bend = (self.swings[1], self.bends[1]) if near else (self.swings[0], self.bends[0])
        dim = 1.0 if near else 0.78
        knee = (offset + self.thigh * sin(swing), self.hip - self.thigh * cos(swing))
        x, y = knee[0] + self.shin * sin(swing - bend), knee[1] - self.shin * cos(swing - bend)
        lower = person.skin if person.skirt else person.bottom
        self.canvas.limb([(offset, self.hip), knee, (x, y)], 0.07 * self.thick, shade(lower, dim))
        self.canvas.limb([(offset, self.hip), knee], 0.088 * self.thick, shade(person.bottom, dim))
        sole = [(x - 0.01 * h, y - 0.01 * h), (x + 0.085 * h * max(self.side, 0.25), y - 0.012 * h)]
        self.canvas.limb(sole, 0.042 * h, shade((44, 44, 52), dim))

    def torso(self) -> None:
        """Draw skirt and jacket, the jacket's back a little darker."""
        h, hip, lean, shoulder = self.h, self.hip, self.lean, self.shoulder
        wide = (0.072 + 0.036 * (1.0 - self.side)) * self.thick
        waist = 0.86 * wide
        if self.person.skirt:
            top, low = hip + 0.1 * h, hip - 0.19 * h
            skirt = [(-waist, top), (waist, top), (1.7 * waist, low), (-1.7 * waist, low)]
            self.canvas.polygon(skirt, self.person.bottom)
        hem = hip - (0.16 * h if self.person.coat else 0.02 * h)
        flare = waist * (1.22 if self.person.coat else 1.0)
        belt, chest = hip + 0.12 * h, shoulder - 0.05 * h
        jacket = [
            (-flare, hem), (flare, hem), (waist + 0.3 * lean, belt), (wide + lean, chest),
            (0.72 * wide + lean, shoulder), (-0.72 * wide + lean, shoulder), (-wide + lean, chest),
            (-waist + 0.3 * lean, belt),
        ]  # fmt: skip
        self.canvas.polygon(jacket, self.person.top)
        back = [
            (-flare, hem),
            (-0.45 * flare, hem),
            (-0.4 * wide + lean, shoulder - 0.02 * h),
            (-wide + lean, chest),
        ]
        self.canvas.polygon(back, shade(self.person.top, 0.86))

    def head(self) -> None:
        h, person, canvas = self.h, self.person, self.canvas
        x, y = self.lean + 0.012 * h * self.side, self.shoulder + 0.105 * h
        canvas.limb([(self.lean, self.shoulder - 0.01 * h), (x, y)], 0.05 * h, shade(person.skin, 0.85))
        if person.long_hair:
            canvas.ellipse((x - 0.028 * h * self.side, y - 0.035 * h), 0.06 * h, 0.095 * h, person.hair)
        canvas.ellipse((x, y), 0.056 * h, 0.07 * h, person.skin)
        canvas.ellipse((x - 0.02 * h * self.side, y + 0.028 * h), 0.057 * h, 0.05 * h, person.hair)
        if person.hat:
            canvas.ellipse((x, y + 0.045 * h), 0.06 * h, 0.042 * h, shade(person.top, 0.6))
            brim = [(x - 0.04 * h, y + 0.03 * h), (x + 0.09 * h, y + 0.03 * h)]
            canvas.limb(brim, 0.02 * h, shade(person.top, 0.55))
