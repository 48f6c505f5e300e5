"""A subscriber and nothing else, as README.md of the examples tells to install it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import example
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model

ROOT = example.EXAMPLES.parent


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_packages_are_enough(tmp_path: Path) -> None:
    readme = (example.EXAMPLES / "README.md").read_text()
    told = [line for line in readme.splitlines() if line.startswith("pip install ")]
    assert told[:2] == ["pip install pyzmq msgspec", "pip install --no-deps ."]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for line in told[:2]:
        subprocess.run([python, "-m", *line.split()], cwd=ROOT, env=env, check=True, capture_output=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], env=env, check=True, capture_output=True, text=True
    )
    names = {line.partition("==")[0] for line in listed.stdout.splitlines()}
    assert names - {"pip", "setuptools"} == {"streamd", "pyzmq", "msgspec"}

    bus = f"ipc://{tmp_path}/bus"
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(
        tmp_path / "c.yaml", model, {"yard": {"url": "test:?rate=10&size=128x64"}}, publish={"bind": bus}
    )
    program = example.EXAMPLES / "subscriber.py"
    reader = subprocess.Popen(
        [python, program, bus],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        cwd=tmp_path,
    )
    with RunningDaemon(config):
        assert reader.stdout is not None
        lines = [reader.stdout.readline() for _ in range(5)]
        code, _, err = example.end(reader)
    assert (code, err) == (0, "")
    assert all(line.startswith("yard ") for line in lines)
