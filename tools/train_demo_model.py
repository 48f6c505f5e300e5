"""Trains the demo detector on rendered street scenes and writes it as ONNX.

Needs torch; see tools/README.md for the version and the time it takes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.demo.detector import Detector, grid, loss
from tools.demo.export import write_onnx
from tools.demo.pictures import INPUT, training_pictures
from tools.demo.scene import CLASSES

ASSET = Path(__file__).resolve().parent.parent / "streamd" / "assets" / "demo.onnx"


class Average:
    """A running average of the weights: steadier than the last step's."""

    def __init__(self, model: Detector) -> None:
        self.model = copy.deepcopy(model).eval()
        self.steps = 0

    def update(self, model: Detector) -> None:
        """Take in the weights after one step."""
        self.steps += 1
        keep = min(0.998, self.steps / (self.steps + 20))
        with torch.no_grad():
            for own, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
                if own.dtype.is_floating_point:
                    own.mul_(keep).add_(new, alpha=1 - keep)
                else:
                    own.copy_(new)


def batch_of(
    pictures: NDArray[np.uint8],
    rows: list[NDArray[np.float32]],
    chosen: NDArray[np.intp],
    rng: np.random.Generator,
) -> tuple[Tensor, list[Tensor]]:
    """Return images 0..1 [B, 3, H, W] and their truth, mirrored and recoloured at random.

    Only pictures that fill the whole width are mirrored: the filling stays on the right.
    """
    images, truths = [], []
    for index in chosen:
        image = pictures[index].astype(np.float32)
        truth = rows[index].copy()
        full_width = not np.all(image[:, -1] == 114)
        if full_width and rng.random() < 0.5:
            image = image[:, ::-1]
            truth[:, [0, 2]] = INPUT[1] - truth[:, [2, 0]]
        gain = rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3)
        image = np.clip(image * gain + rng.uniform(-12, 12), 0, 255)
        if rng.random() < 0.5:  # paint in any hue: swap the colour channels
            image = image[..., rng.permutation(3)]
        images.append(np.ascontiguousarray(image, np.float32))
        truths.append(torch.from_numpy(truth))
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255.0
    return stacked.contiguous(memory_format=torch.channels_last), truths


def train(
    pictures: NDArray[np.uint8],
    rows: list[NDArray[np.float32]],
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
) -> Detector:
    """Train a new detector and return the average of its weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Detector(len(CLASSES))
    for weight in model.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    average = Average(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}], lr=rate
    )
    cells = grid(*INPUT)
    per_epoch = len(pictures) // batch
    steps, warm, step = epochs * per_epoch, 100, 0
    for epoch in range(epochs):
        order = rng.permutation(len(pictures))
        began, summed = time.monotonic(), 0.0
        for i in range(per_epoch):
            share = max(0.0, (step - warm) / max(1, steps - warm))
            now = rate * min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
            for group in optimiser.param_groups:
                group["lr"] = now
            images, truths = batch_of(pictures, rows, order[i * batch : (i + 1) * batch], rng)
            value = loss(model(images), truths, cells)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 20.0)
            optimiser.step()
            average.update(model)
            summed += float(value.detach())
            step += 1
        print(
            f"epoch {epoch + 1}/{epochs} loss {summed / per_epoch:.3f} {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return average.model


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument(
        "--first-seed", type=int, default=1000, help="scenes use this seed and those after it"
    )
    parser.add_argument("--scenes", type=int, default=900)
    parser.add_argument("--per-scene", type=int, default=5, help="pictures taken of each scene")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=1, help="seed of the weights and of the order")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()

    torch.set_num_threads(asked.threads)
    began = time.monotonic()
    seeds = range(asked.first_seed, asked.first_seed + asked.scenes)
    pictures, rows = training_pictures(seeds, asked.per_scene, asked.threads)
    rendered = time.monotonic()
    print(f"{len(pictures)} pictures rendered in {rendered - began:.0f} s", flush=True)
    model = train(pictures, rows, asked.epochs, asked.batch, asked.rate, asked.seed)
    write_onnx(
        model,
        asked.out,
        {
            "names": str(dict(enumerate(CLASSES))),
            "task": "detect",
            "streamd.head": "yolox",
            "streamd.input": "yolox",
            "description": "Finds drawn people and vehicles in the demo clip; trained on drawings only",
            "licence": "Apache-2.0",
            "author": "streamd",
            "made_by": "tools/train_demo_model.py",
            "seeds": json.dumps(
                {"scenes": [seeds[0], seeds[-1]], "per_scene": asked.per_scene, "training": asked.seed}
            ),
        },
    )
    size = asked.out.stat().st_size
    print(f"{asked.out}: {size} bytes; trained in {time.monotonic() - rendered:.0f} s, "
          f"{time.monotonic() - began:.0f} s in all")  # fmt: skip


if __name__ == "__main__":
    main()
