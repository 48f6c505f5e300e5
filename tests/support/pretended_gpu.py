"""The environment of a process that believes it has TensorRT (see `pretended/sitecustomize.py`)."""

from __future__ import annotations

import os
import time
from pathlib import Path

HERE = Path(__file__).parent / "pretended"
ROOT = Path(__file__).parents[2]


class PretendedGpu:
    """A GPU whose engines are built when the test says so. folder: for marks and for the cache."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "engines"
        self._marks = folder / "pretended"
        self._marks.mkdir()
        path = [str(HERE), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.env = {"PYTHONPATH": os.pathsep.join(path), "STREAMD_PRETENDED": str(self._marks)}
        self.runtime = {"providers": ["tensorrt", "cpu"], "cache_dir": str(self.cache)}

    def go(self, word: str = "") -> None:
        """Let every build end, from now on; `fail`, `crash` or `no bytes`: in that way."""
        fresh = self._marks / "go.new"
        fresh.write_text(word)
        fresh.rename(self._marks / "go")

    def builds(self) -> list[tuple[int, str]]:
        """Process and model of each build that began."""
        path = self._marks / "builds"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split()[0]), line.split()[1]) for line in lines]

    def wait_for_builds(self, count: int, timeout_s: float = 60) -> None:
        """Block until so many builds have begun."""
        deadline = time.monotonic() + timeout_s
        while len(self.builds()) < count:
            assert time.monotonic() < deadline, self.builds()
            time.sleep(0.02)

    def engines(self) -> list[str]:
        """The folders of engines that may be trusted."""
        return [
            path.parent.name for path in self.cache.glob("*/manifest.json") if "." not in path.parent.name
        ]
