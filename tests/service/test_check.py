"""`streamd check` through its command: exit codes, what goes where, and no secret in any of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from streamd.cli.check import check
from tests.support.number_model import make_number_model


@pytest.fixture
def run(tmp_path: Path):
    app = typer.Typer()
    app.command()(check)

    def invoke(text: str | None, *options: str) -> Result:
        file = tmp_path / "streamd.yaml"
        if text is not None:
            file.write_text(text)
        return CliRunner().invoke(app, ["-c", str(file), *options])

    return invoke


def test_a_good_file_shows_its_values_and_what_would_run(run, tmp_path: Path) -> None:
    make_number_model(tmp_path / "m.onnx")
    (tmp_path / "clip.mp4").touch()
    result = run(
        "model: {path: m.onnx}\nstreams:\n  gate: {url: 'rtsp://h/', username: u, password: hunter2}\n"
        "  clip: {url: clip.mp4}\n  off: {url: 'gone.mp4', enabled: false}\npublish: {bind: 'tcp://*:5560'}\n"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    values = yaml.safe_load(result.stdout)
    assert values["streams"]["gate"]["password"] == "***"
    assert "hunter2" not in result.output
    for line in (
        "# model m.onnx: head auto, on tensorrt, then cuda, cpu",
        "# 2 of 3 streams enabled",
        "# stream gate: live, no older than 500 ms, from rtsp://h/",
        f"# stream clip: every frame, from {tmp_path}/clip.mp4",
        "# results on tcp://*:5560",
        "# anyone who reaches this address can read the results: they are not encrypted",
    ):
        assert line in result.stdout.splitlines()


def test_faults_go_to_stderr_and_end_with_2(run, tmp_path: Path) -> None:
    result = run("model: {path: m.onnx}\nstreams: {a: {url: x, fsp: 3}}\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{tmp_path}/streamd.yaml:2: streams.a.fsp: is not a key")
    assert "Traceback" not in result.output


def test_files_that_are_not_there_end_with_1(run, tmp_path: Path) -> None:
    result = run(
        "model:\n  path: m.onnx\n  labels: names.txt\nstreams:\n  a: {url: gone.mp4}\n"
        "  b: {url: 'rtsps://h/', tls: {ca: ca.pem}}\n"
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{tmp_path}/streamd.yaml:2: model.path: {tmp_path}/m.onnx is not there, or may not be read",
        f"{tmp_path}/streamd.yaml:3: model.labels: {tmp_path}/names.txt is not there, or may not be read",
        f"{tmp_path}/streamd.yaml:5: streams.a.url: {tmp_path}/gone.mp4 is not there, or may not be read",
        f"{tmp_path}/streamd.yaml:6: streams.b.tls.ca: {tmp_path}/ca.pem is not there, or may not be read",
    ]


def test_a_class_that_the_model_does_not_have_is_named_with_the_nearest(run, tmp_path: Path) -> None:
    make_number_model(tmp_path / "m.onnx")
    (tmp_path / "a.mp4").touch()
    result = run("model: {path: m.onnx}\nstreams: {a: {url: a.mp4, classes: [bit0, bitt1]}}\n")
    assert result.exit_code == 2
    assert "streams.a.classes" in result.stderr
    assert "bit1" in result.stderr


def test_a_model_that_is_no_model_ends_with_2(run, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("not a model")
    (tmp_path / "a.mp4").touch()
    result = run("model: {path: m.onnx}\nstreams: {a: {url: a.mp4}}\n")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_no_configuration_ends_with_1(run, tmp_path: Path) -> None:
    result = run(None)
    assert result.exit_code == 1
    assert result.stderr == f"{tmp_path}/streamd.yaml: no such file; name the configuration with -c\n"


def test_the_schema_needs_no_configuration(run) -> None:
    result = run(None, "--schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"] == "streamd.yaml"
