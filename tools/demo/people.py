"""People: what one looks like and how one is drawn at a given moment of its stride."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from tools.demo.canvas import Canvas, Colour, Point, Sprite, mix, shade

SKIN: tuple[Colour, ...] = ((172, 200, 236), (140, 176, 222), (96, 134, 190), (66, 96, 148), (48, 66, 104))
HAIR: tuple[Colour, ...] = ((24, 24, 28), (32, 48, 74), (52, 88, 132), (96, 160, 206), (150, 152, 156), (40, 60, 140))
CLOTH: tuple[Colour, ...] = (
    (60, 58, 190), (176, 112, 52), (84, 146, 70), (58, 178, 226), (206, 196, 186), (58, 54, 52),
    (150, 80, 128), (168, 160, 70), (92, 122, 232), (228, 228, 232), (112, 72, 44), (74, 108, 148),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((112, 76, 50), (54, 50, 48), (88, 88, 92), (84, 110, 140), (60, 76, 60), (150, 160, 172))


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


def _leg(hip: Point, swing: float, bend: float, thigh: float, shin: float) -> list[Point]:
    """Hip, knee and ankle of a leg swung forward by `swing` and bent by `bend` radians."""
    knee = hip[0] + thigh * sin(swing), hip[1] - thigh * cos(swing)
    lower = swing - bend
    return [hip, knee, (knee[0] + shin * sin(lower), knee[1] - shin * cos(lower))]


def draw_person(
    person: Person, ground: Point, pixels_per_metre: float, phase: float, facing: float, pace: float = 1.0
) -> Sprite:
    """Draw a person with the feet at `ground` (frame pixels).

    `phase`: radians within the stride. `facing`: -1 left, 1 right, 0 towards or
    away from the viewer. `pace`: 0 standing .. 1 walking.
    """
    h = person.height
    side = abs(facing)
    reach = 0.5 * pace * max(side, 0.12)
    canvas = Canvas(
        ground, pixels_per_metre, (0.5 * h, 0.5 * h, 0.06 * h, 1.08 * h), mirrored=facing < 0
    )
    spread = (1.0 - side) * 0.055 * h
    thick = person.girth * h
    thigh, shin = 0.245 * h, 0.235 * h

    angles = (reach * sin(phase), reach * sin(phase + pi))
    bends = tuple(pace * 0.95 * max(0.0, sin(phase + offset + 0.5 * pi)) for offset in (0.15, 0.15 + pi))
    drop = min(cos(a) for a in angles)
    hip_y = 0.03 * h + thigh * drop + shin * drop
    shoulder_y = hip_y + 0.335 * h
    lean = 0.03 * h * pace * side
    head = (lean + 0.012 * h * side, shoulder_y + 0.105 * h)

    def arm(swing: float, offset: float, colour: Colour) -> None:
        shoulder = (lean + offset, shoulder_y - 0.03 * h)
        elbow = (shoulder[0] + 0.16 * h * sin(swing) + 0.3 * offset, shoulder[1] - 0.16 * h * cos(swing))
        fore = swing + 0.45 * side
        hand = (elbow[0] + 0.15 * h * sin(fore), elbow[1] - 0.15 * h * cos(fore))
        canvas.limb([shoulder, elbow, hand], 0.056 * thick, colour)
        canvas.ellipse(hand, 0.024 * h, 0.026 * h, person.skin if colour == person.top else shade(person.skin, 0.8))
        if person.bag and colour == person.top:
            x, y = hand
            canvas.rectangle(x - 0.07 * h, y - 0.17 * h, x + 0.06 * h, y - 0.03 * h, shade(person.bottom, 0.7))

    def leg(swing: float, bend: float, offset: float, dim: float) -> None:
        joints = _leg((offset, hip_y), swing, bend, thigh, shin)
        bare = person.skin if person.skirt else person.bottom
        canvas.limb(joints, 0.07 * thick, shade(bare, dim))
        canvas.limb(joints[:2], 0.088 * thick, shade(person.bottom, dim))
        x, y = joints[2]
        toe = 0.085 * h * max(side, 0.25)
        canvas.limb([(x - 0.01 * h, y - 0.01 * h), (x + toe, y - 0.012 * h)], 0.042 * h, shade((44, 44, 52), dim))

    back_colour = shade(person.top, 0.72)
    if person.backpack:
        canvas.ellipse((lean - 0.11 * h * side, hip_y + 0.2 * h), 0.085 * h, 0.14 * h, shade(mix(person.top, person.hair, 0.8), 0.9))
    arm(-0.8 * angles[0], spread * 1.7, back_colour)
    leg(angles[0], bends[0], spread * 0.9, 0.78)
    leg(angles[1], bends[1], -spread * 0.9, 1.0)

    wide = (0.072 + 0.036 * (1.0 - side)) * thick
    waist = 0.86 * wide
    hem = hip_y - (0.16 * h if person.coat else 0.02 * h)
    if person.skirt:
        canvas.polygon(
            [(-waist, hip_y + 0.1 * h), (waist, hip_y + 0.1 * h), (1.7 * waist, hip_y - 0.19 * h), (-1.7 * waist, hip_y - 0.19 * h)],
            person.bottom,
        )
    flare = waist * (1.22 if person.coat else 1.0)
    canvas.polygon(
        [
            (-flare, hem), (flare, hem), (waist + 0.3 * lean, hip_y + 0.12 * h), (wide + lean, shoulder_y - 0.05 * h),
            (0.72 * wide + lean, shoulder_y), (-0.72 * wide + lean, shoulder_y), (-wide + lean, shoulder_y - 0.05 * h),
            (-waist + 0.3 * lean, hip_y + 0.12 * h),
        ],
        person.top,
    )  # fmt: skip
    canvas.polygon(
        [(-flare, hem), (-0.45 * flare, hem), (-0.4 * wide + lean, shoulder_y - 0.02 * h), (-wide + lean, shoulder_y - 0.05 * h)],
        shade(person.top, 0.86),
    )
    arm(-0.8 * angles[1], -spread * 1.7, person.top)

    canvas.limb([(lean, shoulder_y - 0.01 * h), head], 0.05 * h, shade(person.skin, 0.85))
    if person.long_hair:
        canvas.ellipse((head[0] - 0.028 * h * side, head[1] - 0.035 * h), 0.06 * h, 0.095 * h, person.hair)
    canvas.ellipse(head, 0.056 * h, 0.07 * h, person.skin)
    canvas.ellipse((head[0] - 0.02 * h * side, head[1] + 0.028 * h), 0.057 * h, 0.05 * h, person.hair)
    if person.hat:
        canvas.ellipse((head[0], head[1] + 0.045 * h), 0.06 * h, 0.042 * h, shade(person.top, 0.6))
        canvas.limb([(head[0] - 0.04 * h, head[1] + 0.03 * h), (head[0] + 0.09 * h, head[1] + 0.03 * h)], 0.02 * h, shade(person.top, 0.55))
    return canvas.finish()
