"""What the camera and the sky do to the drawn street: drift, shadows, cast, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sin
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Light:
    """How a scene is lit; `drift_*` and `cloud_*` change it over time (seconds)."""

    gain: float
    drift: float
    drift_period: float
    drift_start: float
    cast: tuple[float, float, float]
    cast_drift: float
    vignette: float
    cloud_depth: float
    cloud_width: float
    cloud_speed: float
    cloud_start: float
    cloud_slope: float
    blur: float
    noise: float

    @property
    def dusk(self) -> bool:
        """Whether it is dark enough for lamps."""
        return self.gain < 0.72


def random_light(rng: np.random.Generator) -> Light:
    """Draw the light of a scene."""
    warm = float(rng.normal(0, 0.07))
    green = float(rng.normal(0, 0.02))
    return Light(
        gain=float(rng.uniform(0.5, 0.72) if rng.random() < 0.2 else rng.uniform(0.78, 1.12)),
        drift=float(rng.uniform(0.02, 0.16)),
        drift_period=float(rng.uniform(6, 20)),
        drift_start=float(rng.uniform(0, 2 * pi)),
        cast=(1 - warm, 1 + green, 1 + warm),
        cast_drift=float(rng.uniform(0, 0.05)),
        vignette=float(rng.uniform(0, 0.35)),
        cloud_depth=float(rng.uniform(0.15, 0.45)) if rng.random() < 0.6 else 0.0,
        cloud_width=float(rng.uniform(0.15, 0.5)),
        cloud_speed=float(rng.uniform(0.04, 0.2)) * (1 if rng.random() < 0.5 else -1),
        cloud_start=float(rng.uniform(0, 2)),
        cloud_slope=float(rng.uniform(-0.8, 0.8)),
        blur=float(rng.uniform(0.3, 1.0)),
        noise=float(rng.uniform(1.0, 6.0)),
    )


def expose(
    frame: NDArray[np.float32],
    light: Light,
    seconds: float,
    grain: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Return the frame (BGR, [h, w, 3]) as a camera would deliver it, uint8.

    `grain` is unit noise at least 32 pixels larger than the frame each way; every
    frame takes another cut of it, which looks like fresh noise and costs little.
    """
    height, width = frame.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, 46), np.linspace(-1, 1, 80), indexing="ij")
    wave = sin(2 * pi * seconds / light.drift_period + light.drift_start)
    field = light.gain * (1 + light.drift * wave) * (1 - light.vignette * 0.5 * (x * x + y * y))
    if light.cloud_depth:
        along = x + light.cloud_slope * y + light.cloud_start - light.cloud_speed * 2 * seconds
        place = np.mod(along + 2, 4) - 2
        field = field * (1 - light.cloud_depth * np.exp(-((place / light.cloud_width) ** 4)))
    lift = light.cast_drift * wave
    tint = np.array([light.cast[0] - lift, light.cast[1], light.cast[2] + lift])
    small = (field[..., None] * tint).astype(np.float32)
    lit: Any = frame * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    lit = cv2.GaussianBlur(lit, (0, 0), light.blur)
    dy, dx = (int(v) for v in rng.integers(0, 32, 2))
    lit += light.noise * grain[dy : dy + height, dx : dx + width]
    shot: NDArray[np.uint8] = np.clip(lit + 0.5, 0, 255).astype(np.uint8)
    return shot
