"""Where the real models, clips and reference detections are: the folder named by STREAMD_TEST_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_root() -> Path | None:
    """The folder with models/, videos/, images/ and expected/; None when it is not set or not there."""
    named = os.environ.get("STREAMD_TEST_DATA")
    if not named or not (Path(named) / "videos").is_dir():
        return None
    return Path(named).resolve()


needs_data = pytest.mark.skipif(
    data_root() is None, reason="needs real data: set STREAMD_TEST_DATA to its folder"
)
