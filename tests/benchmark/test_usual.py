"""The usual loop reads what streamd reads: else it would be beaten for finding nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamd.benchmark.usual import UsualLoop, letterboxed
from streamd.core.errors import StreamdError, UsageError
from streamd.models.contract import Array, Fit, InputContract, InputShape, Order
from streamd.models.description import describe
from streamd.models.selection import rules_for
from tests.support import planted
from tests.support.clips import Clip, make
from tests.support.tiny_models import Tiny

LAYOUTS = {"yolox": planted.yolox, "yolo": planted.yolo, "yolov5": planted.yolov5, "end2end": planted.end2end}


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
@pytest.mark.parametrize("family", LAYOUTS)
def test_planted_boxes_come_back_in_source_pixels(family: str, dtype: str, tmp_path: Path) -> None:
    """The clip is twice the input's size, so every box is twice as large."""
    make_outputs: Callable[[], dict[str, Array]] = LAYOUTS[family]
    clip = make(tmp_path / "a.mp4", Clip(frames=3, width=2 * planted.WIDTH, height=2 * planted.HEIGHT))
    path = Tiny(make_outputs(), height=planted.HEIGHT, width=planted.WIDTH, dtype=dtype).write(tmp_path)
    description = describe(path)
    loop = UsualLoop(description, rules_for(description.labels), "CPUExecutionProvider")
    frames = loop.run(clip)
    assert len(frames) == 3
    assert len(loop.run(clip, max_frames=2)) == 2
    for found in frames:
        order = np.argsort(-found.scores)
        np.testing.assert_allclose(found.boxes[order], planted.BOXES * 2, atol=0.1)
        np.testing.assert_allclose(found.scores[order], planted.SCORES, atol=1e-3)
        np.testing.assert_array_equal(found.class_ids[order], planted.CLASSES)


def test_the_border_and_the_colours() -> None:
    """A blue picture, twice as wide as high, in a square: grey above and below, blue last of red, green, blue."""
    blue = np.zeros((50, 100, 3), np.uint8)
    blue[..., 0] = 255
    contract = InputContract(Order.RGB, 1 / 255, (0, 0, 0.5), (1, 1, 0.5), Fit.CENTER, 51)
    shape = InputShape("images", 20, 20, True, np.dtype(np.float32), 1)
    tensor, ratio, left, top = letterboxed(blue, contract, shape)
    assert (tensor.shape, tensor.dtype, ratio, left, top) == ((3, 20, 20), np.float32, (0.2, 0.2), 0, 5)
    np.testing.assert_allclose(tensor[:, 10, 10], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(tensor[:, 0, 0], [0.2, 0.2, -0.6], atol=1e-6)


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    faces = describe(Tiny(planted.yunet()).write(tmp_path / "a"))
    with pytest.raises(UsageError, match="yunet"):
        UsualLoop(faces, rules_for(faces.labels), "CPUExecutionProvider")
    pair = describe(Tiny(planted.yolo(), batch=2).write(tmp_path / "b"))
    with pytest.raises(UsageError, match="takes 2 of"):
        UsualLoop(pair, rules_for(pair.labels), "CPUExecutionProvider")
    one = describe(Tiny(planted.yolo()).write(tmp_path))
    loop = UsualLoop(one, rules_for(one.labels), "CPUExecutionProvider")
    with pytest.raises(StreamdError, match="OpenCV"):
        loop.run(tmp_path / "none.mp4")
