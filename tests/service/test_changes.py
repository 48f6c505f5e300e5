"""What counts as a change in mid-stream, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamd.core.errors import Reason
from streamd.core.picture import Layout, Matrix, Picture
from streamd.service.changes import Changes

FIRST = Picture(
    (), Layout.YUV, Matrix.BT601, False, 0, 640, 360, None, 10.0, 0, 0, 1_000_000_000, True, False, None
)


def after(seconds: float, pts: float | None, captured_s: float | None = None, width: int = 640) -> Picture:
    """A picture so many seconds after the first, with this much on its clocks since then."""
    return replace(
        FIRST,
        received_ns=int(seconds * 1e9),
        pts=None if pts is None else 10.0 + pts,
        captured_us=None if captured_s is None else 1_000_000_000 + int(captured_s * 1e6),
        width=width,
    )


@pytest.mark.parametrize(
    ("live", "picture", "reason"),
    [
        (True, after(0.04, 0.04, 0.04), None),
        (True, after(0.04, -0.08, 0.04), None),  # B frames
        (True, after(8, 8, 8), None),  # a pause
        (True, after(8, 0.04, 0.04), None),  # a connection that stood still
        (True, after(0.01, 2, 2), None),  # and catches up
        (True, after(0.04, None, None), None),
        (True, after(0.04, 0.04, 0.04, width=320), Reason.SIZE_CHANGED),
        (True, after(0.04, 60, 0.04), Reason.CLOCK_JUMP),
        (True, after(0.04, -60, 0.04), Reason.CLOCK_JUMP),
        (True, after(0.04, 0.04, 3600), Reason.CLOCK_JUMP),
        (True, after(0.04, 0.04, -3600), Reason.CLOCK_JUMP),
        (False, after(0.001, 60), None),  # read ahead
        (False, after(0.001, -60), Reason.CLOCK_JUMP),
    ],
)
def test_changes(live: bool, picture: Picture, reason: Reason | None) -> None:
    changes = Changes()
    changes.begin("h264", live=live)
    assert changes.seen(FIRST) is None
    found = changes.seen(picture)
    assert (found[0] if found else None) is reason
    assert changes.seen(picture) is None


def test_a_source_that_is_opened_again_has_new_clocks_but_the_same_kind_of_pictures() -> None:
    changes = Changes()
    changes.begin("h264", live=True)
    assert changes.seen(FIRST) is None
    changes.begin("h264", live=True)
    assert changes.seen(after(5, -10, -5)) is None
    changes.begin("h264", live=True)
    assert changes.seen(after(6, -10, -5, width=320)) == (
        Reason.SIZE_CHANGED,
        "the pictures' size changed from 640x360 to 320x360",
    )
    changes.begin("hevc", live=True)
    found = changes.seen(after(7, -10, -5, width=640))
    assert found == (Reason.CODEC_CHANGED, "the codec changed from h264 to hevc")
    assert changes.seen(after(7.04, -9.96, -4.96)) is None


def test_a_camera_that_changes_with_every_picture_is_told_of_once_a_second() -> None:
    changes = Changes()
    changes.begin("h264", live=True)
    told = [changes.seen(after(n / 25, n / 25, width=320 + n % 2)) for n in range(101)]
    assert [n for n, change in enumerate(told) if change is not None] == [1, 26, 51, 76]
    second = told[26]
    assert second is not None
    assert second[1] == "the pictures' size changed from 321x360 to 320x360 (24 changes before it not told)"
