"""The demo detector: a small convolutional network with a YOLOX head, and its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

STRIDES = (8, 16, 32)
# Longest side of an object, in input pixels, that each stride is asked to find. The ranges overlap
# so that an object near a border is learnt by both neighbours; suppression removes the second find.
SIDES = ((0.0, 60.0), (44.0, 132.0), (100.0, 1e9))
REACH = 1.5  # cells this many strides from the middle of an object answer for it


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(inplace=True),
    )


def _separable(channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(channels, channels, kernel, stride, channels), _conv(channels, channels, 1))


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.body(x)
        return added


class _Branch(nn.Module):
    """The decoupled head of one stride: boxes and objectness from one stem, classes from another."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.boxes = nn.Sequential(_separable(channels), _separable(channels))
        self.kinds = _separable(channels)
        self.box = nn.Conv2d(channels, 4, 1)
        self.found = nn.Conv2d(channels, 1, 1)
        self.kind = nn.Conv2d(channels, classes, 1)
        for last in (self.found, self.kind):
            if last.bias is not None:
                nn.init.constant_(last.bias, -4.0)  # nearly no cell holds anything

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        near = self.boxes(x)
        return self.box(near), torch.cat([self.found(near), self.kind(self.kinds(x))], 1)


class Detector(nn.Module):
    """Takes BGR 0..255 [B, 3, H, W]; gives [B, N, 5 + classes], cells of stride 8 first, row by row.

    Columns: x and y in cells from the cell's corner, log of width and height in strides,
    objectness, one score per class. Scores are logits in training and 0..1 when exported.
    """

    def __init__(self, classes: int = 2, width: int = 40) -> None:
        super().__init__()
        self.scores_squashed = False
        self.to8 = nn.Sequential(
            _conv(3, 16, 3, 2), _conv(16, 32, 3, 2), _conv(32, 48, 3, 2),
            _Residual(nn.Sequential(_conv(48, 48), _conv(48, 48))),
        )  # fmt: skip
        self.to16 = nn.Sequential(_conv(48, 64, 3, 2), _Residual(nn.Sequential(_conv(64, 64), _conv(64, 64))))
        self.to32 = nn.Sequential(
            _separable(64, 5, 2), _Residual(_separable(64, 5)), _Residual(_separable(64, 5))
        )
        self.wide = nn.MaxPool2d(5, 1, 2)
        self.side8, self.side16, self.side32 = _conv(48, width, 1), _conv(64, width, 1), _conv(128, width, 1)
        self.mix8, self.mix16 = _separable(width, 5), _separable(width, 5)
        self.heads = nn.ModuleList([_Branch(width, classes) for _ in STRIDES])

    def forward(self, images: Tensor) -> Tensor:
        at8 = self.to8(images)
        at16 = self.to16(at8)
        at32 = self.to32(at16)
        p32 = self.side32(torch.cat([at32, self.wide(at32)], 1))
        p16 = self.mix16(self.side16(at16) + fn.interpolate(p32, scale_factor=2.0, mode="nearest"))
        p8 = self.mix8(self.side8(at8) + fn.interpolate(p16, scale_factor=2.0, mode="nearest"))
        rows = []
        for head, level in zip(self.heads, (p8, p16, p32), strict=True):
            box, score = head(level)
            if self.scores_squashed:
                score = score.sigmoid()
            rows.append(torch.cat([box, score], 1).flatten(2))
        return torch.cat(rows, 2).transpose(1, 2)


def grid(height: int, width: int) -> Tensor:
    """Return [N, 3]: column, row and stride of every cell, in the order of the output."""
    parts = []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        parts.append(torch.stack([x, y, torch.full_like(x, stride)], -1).reshape(-1, 3))
    return torch.cat(parts).float()


def decode(raw: Tensor, cells: Tensor) -> Tensor:
    """Turn raw columns 0..3 into x1, y1, x2, y2 in input pixels."""
    centre = (raw[..., :2] + cells[:, :2]) * cells[:, 2:]
    half = 0.5 * raw[..., 2:4].clamp(max=6.0).exp() * cells[:, 2:]
    return torch.cat([centre - half, centre + half], -1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU of boxes row by row."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    iou = inner / union.clamp(min=1e-6)
    return iou, iou - (outer - union) / outer.clamp(min=1e-6)


def assign(boxes: Tensor, counted: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Choose which cells answer for which object of one picture.

    `boxes` [G, 4] in input pixels, `counted` [G] false for objects to ignore. Returns
    [N] index of the object (-1: none) and [N] whether the cell's objectness is judged.
    """
    none = torch.full((len(cells),), -1)
    judged = torch.ones(len(cells), dtype=torch.bool)
    if not len(boxes):
        return none, judged
    spots = (cells[:, None, :2] + 0.5) * cells[:, None, 2:]
    middle = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    stride = cells[:, None, 2]
    offset = (spots - middle).abs().amax(2) / stride
    inside = ((spots > boxes[:, :2]) & (spots < boxes[:, 2:])).all(2)
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    fits = torch.zeros_like(inside)
    for step, (low, high) in zip(STRIDES, SIDES, strict=True):
        fits |= (stride == step) & (side >= low) & (side < high)
    # `offset <= 0.5` is the cell the middle lies in: thin objects may hold no cell's centre.
    near = fits & ((inside & (offset < REACH)) | (offset <= 0.5))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    cost = torch.where(near & counted, area.expand(len(cells), -1), torch.inf)
    best, which = cost.min(1)
    chosen = torch.where(best.isinf(), none, which)
    return chosen, (chosen >= 0) | ~(inside & ~counted).any(1)


def loss(raw: Tensor, truths: Sequence[Tensor], cells: Tensor) -> Tensor:
    """Return the loss of a batch.

    `raw` is the output in training; each truth is [G, 6]: box in input pixels, class,
    1 if counted or 0 if to be ignored.
    """
    picked = [assign(t[:, :4], t[:, 5] > 0, cells) for t in truths]
    chosen = torch.stack([p[0] for p in picked])
    judged = torch.stack([p[1] for p in picked])
    image, cell = torch.nonzero(chosen >= 0, as_tuple=True)
    goal = torch.zeros(chosen.shape)
    total = raw.sum() * 0.0
    count = max(1, len(image))
    if len(image):
        wanted = torch.cat([t[c[c >= 0]] for t, c in zip(truths, chosen, strict=True)])
        own = raw[image, cell]
        boxes = decode(own, cells[cell])
        iou, giou = overlap(boxes, wanted[:, :4])
        kinds = fn.one_hot(wanted[:, 4].long(), raw.shape[2] - 5).float()
        total = total + 3.0 * (1 - giou).sum() / count
        total = total + fn.binary_cross_entropy_with_logits(own[:, 5:], kinds, reduction="sum") / count
        goal[image, cell] = iou.detach().clamp(min=0)
    found = fn.binary_cross_entropy_with_logits(raw[..., 4], goal, reduction="none")
    return total + (found * judged).sum() / count
