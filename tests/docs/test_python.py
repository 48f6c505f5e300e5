"""Every Python block of the documentation runs beside a daemon, and shows what that daemon saw."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import pytest

from streamd.bus.keymaking import make_client, make_server
from tests.docs import Block, in_languages
from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model

PYTHON = in_languages("python")
PLAIN = [block for block in PYTHON if "import streamd" not in block.text and "from streamd" not in block.text]
SIZE = (96, 64)
KEYS = ("alice.key_secret", "keys/server.key")


def configured(folder: Path, **publish: str) -> Path:
    """A daemon whose stream `gate` always shows something: its pictures are numbered from 1."""
    clip = make(folder / "gate.mp4", Clip(frames=50, first=1, width=SIZE[0], height=SIZE[1]))
    model = make_number_model(folder / "m.onnx")
    streams = {"gate": {"url": str(clip), "loop": True}}
    return write_config(folder / "streamd.yaml", model, streams, publish=publish)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with RunningDaemon(configured(tmp_path_factory.mktemp("plain"), frames="tcp://127.0.0.1:0")) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with alice's keys and, in `keys`, the daemon's, where alice is listed."""
    folder = tmp_path_factory.mktemp("encrypted")
    make_server(folder / "keys", force=False)
    make_client("alice", folder / "keys", folder, force=False)
    return folder


@pytest.fixture(scope="module")
def encrypted(keys: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(configured(keys, curve="keys")) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_it_shows_what_the_daemon_saw(block: Block, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    daemon: RunningDaemon = request.getfixturevalue("encrypted" if "curve" in block.text else "plain")
    if "curve" in block.text:
        for name in KEYS:
            shutil.copy(request.getfixturevalue("keys") / name, tmp_path)
    code = block.text.replace("tcp://127.0.0.1:5560", daemon.endpoint)
    code = code.replace("tcp://127.0.0.1:5561", daemon.pictures)
    command = [sys.executable, "-u", "-c", code]
    shown: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        for line in islice(it.stdout, 200):
            shown.append(line)
            if "bit" in line:
                break
        if re.search(r"(?m)^(while|for) ", block.text):
            assert it.poll() is None, "it reads on for ever"
            it.kill()
        else:
            assert it.wait(60) == 0
        assert it.stderr.read() == ""
    assert "bit" in shown[-1], shown
    for name in re.findall(r'open\("(\S+\.jpg)", "wb"\)', block.text):
        saved = cv2.imread(str(tmp_path / name))
        assert saved is not None
        assert saved.shape == (SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize("block", PLAIN, ids=str)
def test_a_client_without_streamd_needs_pyzmq_and_a_few_lines(block: Block) -> None:
    modules = {
        name.name.partition(".")[0]
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert modules <= {"json", "zmq"}
    assert len(block.text.strip().splitlines()) <= 10
