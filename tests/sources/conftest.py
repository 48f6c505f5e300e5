"""What the tests of live sources share."""

from __future__ import annotations

import pytest

from tests.support import rtsp_server


@pytest.fixture(scope="session")
def gstreamer() -> None:
    """Skips, naming the packages, where there is no GStreamer RTSP server."""
    lacking = rtsp_server.missing()
    if lacking:
        pytest.skip(lacking)
