"""examples/node: the messages read by a program that shares no line with streamd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import example
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.zmq_reader import Reader


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the folder with what its package.json asks for."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node: apt-get install nodejs npm")
    folder = Path(shutil.copytree(example.EXAMPLES / "node", tmp_path / "node"))
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        ["npm", "install", *options], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    if done.returncode:
        pytest.skip(f"npm cannot install zeromq here: {done.stderr.strip()[-200:]}")
    return folder / "subscriber.mjs"


@pytest.mark.long
def test_node_prints_what_was_sent_and_ends_in_peace(tmp_path: Path, program: Path) -> None:
    bus = f"ipc://{tmp_path}/bus"
    yards = {name: {"url": "test:?rate=10&size=128x64"} for name in ("yard", "yard1")}
    config = write_config(
        tmp_path / "c.yaml", make_number_model(tmp_path / "m.onnx"), yards, publish={"bind": bus}
    )
    command = ["node", str(program), bus]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([*command, "yard"], **pipes)
    leaving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with Reader(bus) as reader, RunningDaemon(config) as daemon:
        assert running.stdout is not None
        assert leaving.stdout is not None
        lines = [running.stdout.readline().rstrip() for _ in range(20)]
        seen = {leaving.stdout.readline().split()[0] for _ in range(8)}
        leaving.stdout.close()
        assert leaving.wait(30) == 0
        code, _, err = example.end(running)
        assert daemon.stop() == 0
        results = [message for message in reader.of("/results") if message["stream"] == "yard"]
    assert (code, err) == (0, "")
    assert seen == {"yard", "yard1"}
    first = results[0]["seq"]
    sent = [
        f"yard {result['seq']}: "
        + (", ".join(f"{item['class']} {item['score']:.2f}" for item in result["objects"]) or "-")
        for result in results
    ]
    got = [line for line in lines if int(line.split()[1].rstrip(":")) >= first]
    begin = sent.index(got[0])
    assert got == sent[begin : begin + len(got)]
    assert any("bit" in line for line in got)

    wrong = subprocess.run([*command[:2], "rubbish"], capture_output=True, text=True, timeout=30, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "rubbish: Invalid argument; write tcp://HOST:PORT" in wrong.stderr
