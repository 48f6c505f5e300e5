"""Probing files: what is measured and what is only announced."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from streamd.core.errors import SourceError
from streamd.sources import SourceRequest
from streamd.sources.probing import Authentication, probe
from tests.support.clips import Clip, make


def test_a_file_is_measured_by_its_own_time(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.mkv", Clip(frames=60, rate=10, gop=20, times=[index * 0.2 for index in range(60)])
    )
    found = probe(SourceRequest(str(path)), threading.Event())
    assert found.rate == pytest.approx(5)
    assert found.keyframe_interval_frames == 20
    assert found.keyframe_interval_s == pytest.approx(4)
    assert found.pictures < 60
    assert found.authentication is Authentication.NONE


def test_one_picture_has_no_rate_and_none_is_an_error(tmp_path: Path) -> None:
    found = probe(SourceRequest(str(make(tmp_path / "a.mp4", Clip(frames=1)))), threading.Event())
    assert (found.pictures, found.rate, found.keyframe_interval_s) == (1, None, None)
    stop = threading.Event()
    stop.set()
    with pytest.raises(SourceError, match="before a picture came"):
        probe(SourceRequest(str(tmp_path / "a.mp4")), stop)
