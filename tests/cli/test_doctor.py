"""`streamd doctor` and `streamd --version` as commands: what goes where, exit codes, terminals, pipes and signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import typer

from streamd import __version__
from streamd.bus.wire import schema
from streamd.cli.doctor import _show, doctor
from streamd.diagnosis import examination
from streamd.diagnosis.finding import Item, Report
from streamd.diagnosis.table import CHECKS
from tests.diagnosis.test_configured import free_port, taken
from tests.support.command import run_inline, start
from tests.support.daemon import write_config
from tests.support.number_model import make_number_model

PLAIN = {**os.environ, "TERM": "xterm"}
PLAIN.pop("NO_COLOR", None)


def has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def test_the_schema_in_the_package_is_that_of_the_report() -> None:
    written = json.loads((files("streamd") / "assets/schemas/doctor.schema.json").read_text())
    assert written == schema(Report), "run tools/make_schemas.py"


@pytest.mark.slow
def test_a_machine_without_a_gpu_runs_streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = run_inline("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert "Traceback" not in result.stdout
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines if line[0] != " "} <= {"ok", "missing", "wrong", "unused"}
    commands = re.compile(r" {9}(?!# )\S+")  # they are never broken
    assert all(len(line) <= 80 for line in lines if not commands.match(line)), result.stdout
    for words in (r"ok +provider cpu +runs", r"ok +H\.264 +h264 on the CPU", r"ok +H\.265 +hevc on the CPU"):
        assert re.search(words, result.stdout), result.stdout
    if not has_gpu():
        assert re.search(r"unused +NVIDIA driver, CUDA, cuDNN, TensorRT, provider", result.stdout)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_configuration_that_runs_as_json(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "test:"}})
    before = sorted(tmp_path.iterdir())
    result = run_inline("doctor", "--json", "-c", config)
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    written = json.loads((files("streamd") / "assets/schemas/doctor.schema.json").read_text())
    jsonschema.validate(report, written)
    assert report["schema"] == "streamd.doctor/1"
    assert (report["version"], report["config"], report["exit_code"]) == (__version__, str(config), 0)
    assert all(set(item) == {"name", "state", "found", "fix", "exit_code"} for item in report["items"])
    assert {"configuration", "model", "publish.bind", "metrics.listen", "provider cpu"} <= {
        item["name"] for item in report["items"]
    }
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_configuration_that_cannot_run_ends_with_1_and_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "gate").write_text("hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    streams = {"gate": {"url": "rtsp://h/", "username": "u", "password": "${cred:gate}"}}
    with taken() as port:
        config = write_config(
            tmp_path / "c.yaml",
            tmp_path / "gone.onnx",
            streams,
            publish={"bind": f"tcp://127.0.0.1:{port}"},
            metrics={"listen": f"127.0.0.1:{free_port()}"},
        )
        result = run_inline("doctor", "-c", config)
    assert result.returncode == 1
    assert result.stderr == f"streamd: {config} cannot run here: model.path, publish.bind\n"
    assert f"is in use by {Path('/proc/self/comm').read_text().strip()}" in " ".join(result.stdout.split())
    assert "hunter2" not in result.stdout


@pytest.mark.slow
def test_an_invalid_configuration_ends_with_2(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model: {path: m.onnx}\nstreams: {a: {url: 'rtsp://u:hunter2@h/'}}\n")
    result = run_inline("doctor", "--json", "-c", config)
    report = json.loads(result.stdout)
    assert (result.returncode, report["exit_code"]) == (2, 2)
    (item,) = (item for item in report["items"] if item["exit_code"])
    assert item["name"] == "streams.a.url"
    assert item["fix"] == f"streamd check -c {config}"
    assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.slow
def test_on_a_terminal_it_has_colours_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    near, far = pty.openpty()
    command = [sys.executable, "-m", "streamd", "doctor"]
    env = {**PLAIN, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=far, stderr=far, stdin=subprocess.DEVNULL, env=env) as process:
        os.close(far)
        seen = b""
        deadline = time.monotonic() + 60
        while b"processor" not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([near], [], [], 1)[0]:
                seen += os.read(near, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    with contextlib.suppress(OSError):  # the terminal has gone
        while more := os.read(near, 4096):
            seen += more
    os.close(near)
    assert b"\x1b[32mok" in seen
    assert b"Traceback" not in seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_no_color(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], coloured: bool) -> None:
    monkeypatch.setattr(os, "environ", {**PLAIN, **environ})
    near, far = pty.openpty()
    with open(far, "w") as terminal, contextlib.redirect_stdout(terminal):
        _show("wrong", "clock", "1970", "timedatectl")
        seen = b""
        while b"timedatectl" not in seen:
            seen += os.read(near, 4096)
    os.close(near)
    assert (b"\x1b" in seen) == coloured


def test_lines_are_wrapped_and_commands_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    command = "install " + "x" * 90
    name = "streams.a-long-name.tls.ca"
    _show("wrong", name, "words " * 30 + "\x1b[31m", f"# {'so it is ' * 20}\n{command}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"wrong    {name}"
    assert f"         {command}" in lines
    assert all(len(line) <= 80 for line in lines if command not in line)
    assert all(line.startswith("         # ") for line in lines if "so it" in line)
    assert "\x1b" not in "".join(lines)


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_failure() -> None:
    with start("doctor", env=PLAIN) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_odd_names_closed_outputs_and_a_folder_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a table of one check: what is looked at here is what goes out."""
    monkeypatch.setattr(examination, "examine", lambda *_, **__: _one())
    odd = os.fsdecode(b"/none/\xff.yaml")
    result = run_inline("doctor", "--json", "-c", odd)
    report = json.loads(result.stdout)
    assert (result.returncode, report["config"]) == (1, "/none/?.yaml")
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)
        with pytest.raises(typer.Exit):
            doctor(None, json=False)


def _one() -> Generator[Item]:
    yield Item(name="one", state="wrong", found="", exit_code=1)


@pytest.mark.slow
def test_a_configuration_with_an_odd_name_from_a_folder_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    first = next(iter(examination.examine(Path(os.fsdecode(b"\xff.yaml")))))
    assert (first.name, first.state, first.exit_code) == ("configuration", "missing", 1)
    first.found.encode()


def test_each_check_has_a_limit_and_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(0 < check.limit_s <= 300 for check in CHECKS)


def test_version() -> None:
    result = run_inline("--version")
    assert (result.returncode, result.stderr) == (0, "")
    first, onnxruntime, ffmpeg = result.stdout.splitlines()
    assert first == f"streamd {__version__}"
    assert metadata.version("onnxruntime-gpu") in onnxruntime
    assert onnxruntime.endswith("cpu")
    assert re.fullmatch(rf"FFmpeg \S+ \(PyAV {metadata.version('av')}\)", ffmpeg)


@pytest.mark.slow
def test_version_loads_no_onnxruntime() -> None:
    code = "import sys, runpy\nsys.argv[1:] = ['--version']\n"
    code += "try: runpy.run_module('streamd', run_name='__main__')\n"
    code += "except SystemExit: print([m for m in ('onnxruntime', 'onnx', 'cv2', 'zmq') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
