from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.number_model import make_number_model


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_failure(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    for words in (["inspect", str(model)], ["--help"]):
        command = [sys.executable, "-m", "streamd", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait(60) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
