"""A street scene over time, and the truth of what can be seen in each of its frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.demo.backdrop import paint_backdrop, random_layout
from tools.demo.canvas import Sprite
from tools.demo.light import expose, random_light
from tools.demo.people import draw_person
from tools.demo.props import draw_prop
from tools.demo.traffic import Actor, place_props, random_actors
from tools.demo.vehicles import draw_vehicle

CLASSES = ("person", "vehicle")
MIN_VISIBLE = 0.30
MIN_HEIGHT = 12
MIN_WIDTH = 5


@dataclass(frozen=True, slots=True)
class Truth:
    """One object in one frame.

    `box`: x1, y1, x2, y2 in pixels, right and bottom edges exclusive, clipped to the
    picture; it spans the whole object, hidden parts included. `visible`: the share of
    the whole object, also of what lies outside the picture, that can be seen.
    `ignore`: too little of it shows (visible < MIN_VISIBLE, or a box lower than
    MIN_HEIGHT or narrower than MIN_WIDTH pixels) to ask a detector for it.
    """

    id: int
    label: int
    box: tuple[int, int, int, int]
    visible: float
    ignore: bool


def lay_over(
    frame: NDArray[np.float32], owner: NDArray[np.int16], sprite: Sprite, number: int
) -> Truth | None:
    """Composite a sprite in place; `owner` [h, w] gets `number` where it is solid.

    Returns its truth with `visible` holding all its solid pixels, those outside too; None if it is not seen.
    """
    height, width = owner.shape
    h, w = sprite.pixels.shape[:2]
    x1, y1 = max(0, sprite.left), max(0, sprite.top)
    x2, y2 = min(width, sprite.left + w), min(height, sprite.top + h)
    if x1 >= x2 or y1 >= y2:
        return None
    cut = sprite.pixels[y1 - sprite.top : y2 - sprite.top, x1 - sprite.left : x2 - sprite.left]
    target = frame[y1:y2, x1:x2]
    target *= 1.0 - cut[..., 3:]
    target += cut[..., :3]
    solid = cut[..., 3] > 0.5
    owner[y1:y2, x1:x2][solid] = number
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if rows.size == 0:
        return None
    box = (x1 + int(columns[0]), y1 + int(rows[0]), x1 + int(columns[-1]) + 1, y1 + int(rows[-1]) + 1)
    return Truth(number, 0, box, float(np.count_nonzero(sprite.pixels[..., 3] > 0.5)), False)


class Scene:
    """A street drawn from a seed; any frame of it can be had on its own, in any order."""

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (640, 360),
        fps: float = 25.0,
        light: Mapping[str, Any] | None = None,
    ) -> None:
        """`size`: width and height in pixels; `light`: fields of Light to have otherwise than drawn."""
        self._seed, self._fps = seed, fps
        rng = np.random.default_rng(seed)
        self.width, self.height = size
        self.layout = random_layout(rng, *size)
        self._light = replace(random_light(rng), **(light or {}))
        self._street = paint_backdrop(rng, self.layout)
        self._props = [
            (ground[1], draw_prop(prop, ground, self.layout.scale(ground[1])))
            for prop, ground in place_props(rng, self.layout)
        ]
        self._actors = random_actors(rng, self.layout)
        self._grain = rng.normal(0, 1, (self.height + 32, self.width + 32, 3)).astype(np.float32)

    def _sprite(self, actor: Actor, ground: tuple[float, float], seconds: float) -> Sprite:
        scale = self.layout.scale(ground[1])
        travelled = actor.travelled(seconds)
        if actor.vehicle is not None:
            return draw_vehicle(actor.vehicle, ground, scale, travelled, actor.facing, self._light.dusk)
        assert actor.person is not None
        phase = actor.phase + 2 * pi * travelled / actor.person.stride
        return draw_person(actor.person, ground, scale, phase, actor.facing, 1.0 if actor.speed else 0.0)

    def _shadow(
        self, street: NDArray[np.float32], sprite: Sprite, ground: tuple[float, float], wide: float
    ) -> None:
        """Darken the ground under an object, in a soft flat ellipse `wide` pixels across."""
        rx, ry = max(2.0, 0.5 * wide), max(1.5, 0.09 * wide)
        x1, x2 = max(0, int(ground[0] - 1.4 * rx)), min(self.width, int(ground[0] + 1.4 * rx) + 2)
        y1, y2 = max(0, int(ground[1] - 1.6 * ry)), min(self.height, int(ground[1] + 1.6 * ry) + 2)
        if x1 >= x2 or y1 >= y2:
            return
        x = (np.arange(x1, x2) - ground[0]) / rx
        y = (np.arange(y1, y2) - ground[1]) / ry
        away = x[None, :] ** 2 + y[:, None] ** 2
        street[y1:y2, x1:x2] *= (1 - 0.45 * np.exp(-1.6 * away)).astype(np.float32)[..., None]

    def at(self, index: int) -> tuple[NDArray[np.uint8], list[Truth]]:
        """Return frame `index`, BGR uint8 [height, width, 3], and what is in it."""
        seconds = index / self._fps
        frame = self._street.copy()
        owner = np.zeros((self.height, self.width), np.int16)
        drawn: list[tuple[float, Sprite, int, Actor | None]] = [
            (y, sprite, 0, None) for y, sprite in self._props
        ]
        for number, actor in enumerate(self._actors, start=1):
            ground = actor.ground(seconds, self.layout)
            if ground is None:
                continue
            sprite = self._sprite(actor, ground, seconds)
            self._shadow(frame, sprite, ground, actor.footprint * self.layout.scale(ground[1]))
            drawn.append((ground[1], sprite, number, actor))
        found: list[tuple[Truth, Actor]] = []
        for _, sprite, number, who in sorted(drawn, key=lambda item: (item[0], item[2])):
            whole = lay_over(frame, owner, sprite, number)
            if whole is not None and who is not None:
                found.append((whole, who))
        seen = np.bincount(owner.ravel(), minlength=len(self._actors) + 1)
        truths = []
        for whole, shown in found:
            visible = float(seen[whole.id]) / whole.visible
            x1, y1, x2, y2 = whole.box
            hidden = visible < MIN_VISIBLE or y2 - y1 < MIN_HEIGHT or x2 - x1 < MIN_WIDTH
            number = whole.id + len(self._actors) * shown.lap(seconds)
            truths.append(Truth(number, shown.label, whole.box, round(visible, 3), hidden))
        rng = np.random.default_rng((self._seed, index))
        return expose(frame, self._light, seconds, self._grain, rng), sorted(truths, key=lambda t: t.id)


def render_scene(
    seed: int,
    frames: int,
    size: tuple[int, int] = (640, 360),
    fps: float = 25.0,
    first: int = 0,
    step: int = 1,
    light: Mapping[str, Any] | None = None,
) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    """Yield `frames` frames (BGR uint8) with their truth; equal arguments give equal pixels."""
    scene = Scene(seed, size, fps, light)
    cv2.setNumThreads(1)  # the drawing is small: threads cost more than they give
    for i in range(frames):
        yield scene.at(first + i * step)
