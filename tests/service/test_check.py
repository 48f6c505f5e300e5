"""`streamd check` through its command: exit codes, what goes where, and no secret in any of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from streamd.bus.keymaking import make_client, make_server
from streamd.bus.keys import read_keyring
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
        "# WARNING: publish.bind: tcp://*:5560: anyone who reaches this address can read all results: they are not "
        "encrypted; set publish.curve, or bind to 127.0.0.1 or ipc://",
    ):
        assert line in result.stdout.splitlines()


def test_faults_go_to_stderr_and_end_with_2(run, tmp_path: Path) -> None:
    result = run("model: {path: m.onnx}\nstreams: {a: {url: x, fsp: 3}}\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{tmp_path}/streamd.yaml:2: streams.a.fsp: is not a key")
    assert "Traceback" not in result.output


PLAIN = "model: {path: m.onnx}\nstreams: {a: {url: 'test:'}}\n"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ("", []),
        ("publish: {bind: 'tcp://127.9.9.9:1'}\nmetrics: {listen: '[::1]:1'}\n", []),
        ("publish: {bind: 'tcp://localhost:1'}\nmetrics: {listen: 'localhost:1'}\n", []),
        ("publish: {bind: 'ipc://bus'}\nmetrics: {listen: null}\n", []),
        ("publish: {bind: 'tcp://[::]:5560'}\n", ["publish.bind"]),
        ("publish: {bind: 'tcp://127.0.0.1.example.org:1'}\n", ["publish.bind"]),
        ("metrics: {listen: '0.0.0.0:9560'}\n", ["metrics.listen"]),
        (
            "publish: {bind: 'tcp://10.0.0.1:1'}\nmetrics: {listen: '*:1'}\n",
            ["publish.bind", "metrics.listen"],
        ),
        ("publish: {bind: 'tcp://*:5560', curve: keys}\n", []),
    ],
)
def test_what_strangers_could_read_is_a_warning(run, tmp_path: Path, sections: str, said: list[str]) -> None:
    make_number_model(tmp_path / "m.onnx")
    make_server(tmp_path / "keys", force=False)
    result = run(PLAIN + sections)
    assert result.exit_code == 0, result.stderr
    warnings = [line.split(": ")[1] for line in result.stdout.splitlines() if line.startswith("# WARNING")]
    assert warnings == said


def test_the_folder_of_keys_is_checked_and_shown(run, tmp_path: Path) -> None:
    make_number_model(tmp_path / "m.onnx")
    config = PLAIN + "publish: {curve: keys}\n"
    gone = run(config)
    assert gone.exit_code == 1
    assert gone.stderr == (
        f"{tmp_path}/streamd.yaml:3: publish.curve: {tmp_path}/keys: no such folder; "
        f"make it with `streamd keys server {tmp_path}/keys`, or copy it there\n"
    )
    make_server(tmp_path / "keys", force=False)
    for name in ("bob", "alice"):
        make_client(name, tmp_path / "keys", tmp_path, force=False)
    good = run(config)
    assert good.exit_code == 0
    assert yaml.safe_load(good.stdout)["publish"]["curve"] == f"{tmp_path}/keys"
    assert "# results on tcp://127.0.0.1:5560, encrypted, for alice, bob" in good.stdout.splitlines()
    assert read_keyring(tmp_path / "keys").server.secret not in good.output
    (tmp_path / "keys" / "server.key_secret").chmod(0o644)
    assert run(config).exit_code == 1
    (tmp_path / "keys" / "clients" / "bob.key").write_text("nothing")
    bad = run(config)
    assert bad.exit_code == 2
    assert len(bad.stderr.splitlines()) == 2


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
