"""Writes docs/SCREENS.md: what the verbs show, as they show it on this machine.

python -m tools.make_screens [FILE]
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "SCREENS.md"
_ASSETS = Path(__file__).parent.parent / "streamd" / "assets"
_HOME = "/home/box"  # stands for the folder in which all this is run
_HEAD = """# What it looks like

Made by `python -m tools.make_screens` on a machine with two cores and no GPU; a terminal gets colours, too.
"""
_BAD = """\
model:
  path: model.onnx
  confidnce: 0.5
streams:
  gate:
    url: rtsp://viewer:secret@10.0.0.5/stream1
    max_age_ms: soon
  archive:
    url: file:nothing.mp4
"""
_GOOD = """\
model: {path: model.onnx}
runtime: {providers: [cpu]}
streams:
  gate: {url: file:clip.mp4, loop: true}
  yard: {url: "test:?rate=10", max_fps: 5}
  roof: {url: rtsp://127.0.0.1:9/none}
"""
_SERVING_S = 6.0


def page() -> str:
    """Run the verbs in a folder of their own. Blocks for half a minute."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for asset, copy in (("demo.mp4", "clip.mp4"), ("demo.onnx", "model.onnx")):
            shutil.copy(_ASSETS / asset, folder / copy)
        (folder / "bad.yaml").write_text(_BAD)
        (folder / "streamd.yaml").write_text(_GOOD)
        screens = [
            ("A first look", _screen(folder, "streamd demo")),
            ("A clip of your own", _screen(folder, "streamd detect clip.mp4 -m model.onnx")),
            ("A configuration with faults", _screen(folder, "cat bad.yaml", "streamd check -c bad.yaml")),
            ("This machine", _screen(folder, "streamd doctor")),
        ]
        with _daemon(folder):
            screens.append(("A running daemon", _screen(folder, "streamd top --once")))
    return _HEAD + "".join(f"\n## {title}\n\n```console\n{text}```\n" for title, text in screens)


def _screen(folder: Path, *commands: str) -> str:
    return "".join(f"$ {command}\n{_shown(folder, command)}" for command in commands)


def _shown(folder: Path, command: str) -> str:
    words = shlex.split(command)
    if words[0] == "streamd":
        words = [sys.executable, "-m", *words]
    done = subprocess.run(
        words,
        cwd=folder,
        env=_environ(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    text = done.stdout.replace(str(folder), _HOME)
    lines = [line.rstrip() for line in text.splitlines()]
    ended = [] if done.returncode == 0 else [f"(exit code {done.returncode})"]
    return "\n".join([*lines, *ended]) + "\n"


@contextmanager
def _daemon(folder: Path) -> Iterator[None]:
    """The daemon in the background, on its default ports, once it has served for a while."""
    daemon = subprocess.Popen(
        [sys.executable, "-m", "streamd", "run", "-c", "streamd.yaml"],
        cwd=folder,
        env=_environ(folder),
        stderr=subprocess.DEVNULL,
    )
    try:
        daemon.wait(_SERVING_S)
        raise SystemExit("the daemon did not stay: are its ports taken?")
    except subprocess.TimeoutExpired:
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


def _environ(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    return {**kept, "HOME": str(folder), "COLUMNS": "110", "NO_COLOR": "1"}


def main() -> None:
    """Write the page."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page())


if __name__ == "__main__":
    main()
