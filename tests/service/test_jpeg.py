"""Pictures as JPEG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamd.core.picture import Layout, Matrix, Picture
from streamd.service.render import JpegEncoder


def strip(width: int) -> Picture:
    """A grey picture 16 pixels high."""
    planes = (np.zeros((16, width), np.uint8),)
    return Picture(
        planes, Layout.GRAY, Matrix.BT601, True, 0, width, 16, None, None, 0, 0, None, True, False, planes
    )


def test_a_picture_that_no_jpeg_can_hold_is_told_once_and_keeps_no_other_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{message}")
    try:
        encode = JpegEncoder(80)
        assert encode("wide", strip(65_501)) is None
        assert encode("wide", strip(70_000)) is None
        empty = strip(16)
        empty.planes = (np.zeros((0, 16), np.uint8),)
        assert encode("empty", empty) is None
        assert (encode("wide", strip(65_500)) or b"").startswith(b"\xff\xd8")
    finally:
        logger.remove(sink)
    assert len(lines) == 2
    assert "wide: no picture of 65501x16 is sent: a JPEG holds at most 65500" in lines[0]
    assert lines[1].startswith("empty: ")
    assert "\n" not in lines[1].strip()
    assert "imencode" not in capfd.readouterr().err


def test_quality_is_as_asked(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    picture = replace(strip(64), planes=(noise,), height=64)
    coarse, fine = (len(JpegEncoder(quality)("a", picture) or b"") for quality in (10, 95))
    assert 0 < coarse < fine / 2
