"""What a start does not wait for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bench import Bench
from tests.support.number_model import make_number_model

# What only a page, a picture, a command on a terminal or a schema needs.
NOT_BEFORE = (
    "prometheus_client",
    "rich.console",
    "streamd.service.schema",
    "streamd.cli.offline",
    "streamd.models.download",
)


def imported(bench: Bench) -> set[str]:
    """The modules that the daemon has imported so far."""
    lines = [line for line in list(bench.daemon.log) if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.long
def test_the_first_result_waits_for_nothing_that_only_others_need(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    streams = {"a": {"url": "test:?rate=25&size=128x64"}}
    with Bench(tmp_path / "c.yaml", model, streams, {"PYTHONPROFILEIMPORTTIME": "1"}) as bench:
        assert bench.more("a", 1)
        before = imported(bench)
        assert "streamd.service.daemon" in before
        assert sorted(before & set(NOT_BEFORE)) == []
        assert "streamd_model_info" in bench.daemon.page("/metrics")
        assert bench.until(lambda: "prometheus_client" in imported(bench))
        assert bench.daemon.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("module", ["streamd.service.config", "streamd.service.loading"])
def test_the_types_of_the_configuration_read_no_sources(module: str) -> None:
    """Only the schema shows the texts below the keys; to find them, sources have to be read."""
    code = f"import {module}, linecache; print([name for name in linecache.cache if 'streamd' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
