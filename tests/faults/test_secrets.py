"""Thirty nasty passwords in one daemon: in nothing that it writes, sends or exposes."""

from __future__ import annotations

import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.rtsp_camera import Camera, Login, Stream, units_of
from tests.support.zmq_reader import Reader

SIGNS = (
    "@",
    ":",
    "/",
    "?",
    "#",
    "%",
    "!",
    "^",
    " ",
    '"',
    "'",
    "\\",
    "ä€",
    "{}",
    "[x]",
    "${",
    "<b>",
    "&amp",
    "\t",
    "$1",
    "*" * 9,
)
PASSWORDS = [
    *(f"geheim{index}{sign}zz{index}q" for index, sign in enumerate(SIGNS)),
    "rtsp://user:geheim@host/path",
    "a@b:c/d?e#f%g!h^i geheim",
    "geheim\\\\n\\\\x41{0}",
    "%67%65%68%65%69%6d%21",
    "geheim" * 20,
    '{"password": "geheim9"}',
    "geheim; rm -rf /",
    "--geheim=option",
    "geheim%s%d%n",
]


def shapes(password: str) -> set[str]:
    """How it could show: as it is, quoted, escaped."""
    plain = {password, urllib.parse.quote(password, safe=""), urllib.parse.quote(password)}
    return plain | {json.dumps(text)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["own", "libav"])
def test_thirty_passwords_are_nowhere(tmp_path: Path, reader: str) -> None:
    """At debug level, with libav's own chatter; refused by one camera and taken by another."""
    assert len(PASSWORDS) == 30
    units = units_of(make(tmp_path / "clip.mp4", Clip(width=64, height=48, frames=50)))
    good = "geheim0@zz0q"
    folder = tmp_path / "credentials"
    folder.mkdir()
    with Camera(units, Stream(rate=10), Login("viewer", good)) as camera:
        streams: dict[str, Any] = {}
        for index, password in enumerate(PASSWORDS):
            (folder / f"c{index}").write_text(password + "\n")
            streams[f"s{index}"] = {
                "url": camera.url,
                "username": "viewer",
                "password": f"${{cred:c{index}}}",
                "reader": reader,
                "max_age_ms": 10_000,
            }
        config = write_config(
            tmp_path / "c.yaml", make_number_model(tmp_path / "n.onnx"), streams, log={"level": "debug"}
        )
        with (
            RunningDaemon(config, {"CREDENTIALS_DIRECTORY": str(folder)}) as daemon,
            Reader(daemon.endpoint) as bus,
        ):
            assert bus.wait(lambda _: bool(bus.of("/s0/results")), 60)
            deadline = time.monotonic() + 60
            while any(state["state"] == "connecting" for state in daemon.streams().values()):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            states = daemon.streams()
            assert {states[f"s{index}"]["state"] for index in range(1, 30)} == {"lost"}
            shown = "".join(daemon.page(page) for page in ("/metrics", "/streams", "/healthz", "/readyz"))
            process = psutil.Process(daemon.process.pid)
            shown += " ".join(process.cmdline()) + str(process.environ())
            assert daemon.stop() == 0
        shown += "\n".join(daemon.log) + "\n".join(
            json.dumps(row, ensure_ascii=False) for row in bus.messages
        )
        assert "libav" in shown or reader == "own"
        found = [password for password in PASSWORDS if any(shape in shown for shape in shapes(password))]
        assert not found
        assert "zz0q" not in shown
        assert "geheim" not in shown
