"""Measures a demo detector with onnxruntime alone, on clips that went through H.264 and back."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.support.map50 import Detections, Objects, map50
from tools.demo.clip import read_clip, write_clip
from tools.demo.scene import CLASSES, Truth, render_scene

ASSET = Path(__file__).resolve().parent.parent / "streamd" / "assets" / "demo.onnx"
FLOOR = 0.05
FILL = 114
STRIDES = (8, 16, 32)


def open_model(path: Path) -> ort.InferenceSession:
    """Open a model on one core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def network_input(picture: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.float32], float]:
    """Letterbox a BGR picture top-left; return float32 [1, 3, height, width] 0..255 and the factor."""
    factor = min(height / picture.shape[0], width / picture.shape[1])
    inner = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    boxed = np.full((height, width, 3), FILL, np.uint8)
    boxed[: inner[1], : inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(boxed.transpose(2, 0, 1)[None], np.float32), factor


def decode(raw: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Turn raw grid columns 0..3 of [N, 5 + classes] into x1, y1, x2, y2 in input pixels."""
    parts = []
    for stride in STRIDES:
        y, x = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        parts.append(np.stack([x, y, np.full_like(x, stride)], -1).reshape(-1, 3))
    cells = np.concatenate(parts).astype(np.float32)
    centre = (raw[:, :2] + cells[:, :2]) * cells[:, 2:]
    half = 0.5 * np.exp(raw[:, 2:4]) * cells[:, 2:]
    return np.concatenate([centre - half, centre + half], 1)


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float) -> list[int]:
    """Return the rows kept by greedy non-maximum suppression, best first."""
    order, kept = np.argsort(-scores, kind="stable"), []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        inner = np.clip(sides, 0, None).prod(1)
        order = rest[inner / (areas[best] + areas[rest] - inner) <= iou]
    return kept


def detect(session: ort.InferenceSession, picture: NDArray[np.uint8], nms_iou: float) -> Detections:
    """Find people and vehicles in one BGR picture; boxes in its pixels, clipped to it."""
    _, _, height, width = session.get_inputs()[0].shape
    tensor, factor = network_input(picture, height, width)
    outputs: Any = session.run(None, {"images": tensor})
    raw = outputs[0][0]
    scores = raw[:, 4:5] * raw[:, 5:]
    boxes = decode(raw, height, width) / factor
    boxes = np.clip(boxes, 0, [picture.shape[1], picture.shape[0]] * 2).astype(np.float32)
    rows: list[tuple[int, int]] = []
    for label in range(scores.shape[1]):
        likely = np.flatnonzero(scores[:, label] >= FLOOR)
        rows += [(int(likely[k]), label) for k in suppress(boxes[likely], scores[likely, label], nms_iou)]
    index = np.array([r for r, _ in rows], int)
    labels = np.array([c for _, c in rows], int)
    return Detections(boxes[index], scores[index, labels], labels)


def as_objects(truths: Sequence[Truth]) -> Objects:
    """Turn the truth of one frame into what the metric takes."""
    return Objects(
        np.array([t.box for t in truths], np.float64).reshape(-1, 4),
        np.array([t.label for t in truths], int),
        np.array([t.ignore for t in truths], bool),
    )


def main() -> None:
    """Print AP50 per class, mAP50 and the time of one inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ASSET)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(9001, 9009)))
    parser.add_argument("--frames", type=int, default=75, help="per clip")
    parser.add_argument("--nms-iou", type=float, default=0.6)
    parser.add_argument("--crf", type=int, default=23)
    asked = parser.parse_args()
    session = open_model(asked.model)
    _, _, height, width = session.get_inputs()[0].shape
    found: list[Detections] = []
    truth: list[Objects] = []
    for seed in asked.seeds:
        rendered = list(render_scene(seed, asked.frames))
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            write_clip(clip, (frame for frame, _ in rendered), (640, 360), 25, asked.crf)
            pictures = list(read_clip(clip))
        own_found = [detect(session, picture, asked.nms_iou) for picture in pictures]
        own_truth = [as_objects(truths) for _, truths in rendered]
        one = map50(own_found, own_truth, len(CLASSES))
        print(
            f"seed {seed}: "
            + ", ".join(f"{CLASSES[k]} {v:.3f} of {one.objects[k]}" for k, v in one.ap.items())
        )
        found += own_found
        truth += own_truth
    result = map50(found, truth, len(CLASSES))
    for label, ap in result.ap.items():
        print(f"AP50 {CLASSES[label]}: {ap:.4f} over {result.objects[label]} objects")
    print(f"mAP50: {result.map50:.4f} over {len(found)} frames of {len(asked.seeds)} clips")
    tensor = np.zeros((1, 3, height, width), np.float32)
    times = []
    for _ in range(60):
        began = time.perf_counter()
        session.run(None, {"images": tensor})
        times.append(time.perf_counter() - began)
    print(f"one inference on one core: median {1e3 * float(np.median(times)):.1f} ms")


if __name__ == "__main__":
    main()
