"""What a configuration means: defaults, precedence, paths, references, and the documented example."""

# ruff: noqa: E501 - a table row is easier to read on one line
from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streamd.core.errors import ConfigError
from streamd.models.contract import Fit, InputContract, Order
from streamd.service.address import Kind
from streamd.service.config import Config, File, Settings, StreamEntry
from streamd.service.document import read_document, write
from streamd.service.loading import load
from streamd.service.schema import json_schema
from streamd.service.values import Confidence, Section

EXAMPLE = Path(__file__).parents[2] / "config" / "streamd.yaml"
MODEL = "model: {path: m.onnx}\n"


@pytest.fixture
def config(tmp_path: Path):
    """Loads this text as a file of its own."""

    def load_text(text: str, **environ: str) -> Config:
        file = tmp_path / "streamd.yaml"
        file.write_text(text)
        return load(file, environ=environ)

    return load_text


def test_the_least_configuration_has_every_default(config, tmp_path: Path) -> None:
    read = config(MODEL + "streams: {a: {url: clip.mp4}}\n")
    assert read.model.path == tmp_path / "m.onnx"
    assert read.runtime.providers == ("tensorrt", "cuda", "cpu")
    assert read.batch.limit == 8
    assert read.publish.bind == "tcp://127.0.0.1:5560"
    assert read.metrics.listen == "127.0.0.1:9560"
    (stream,) = read.streams
    assert (stream.id, stream.kind, stream.intent) == ("a", Kind.FILE, "every")
    assert stream.url == stream.shown_url == str(tmp_path / "clip.mp4")
    assert (stream.confidence, stream.iou, stream.classes) == (Confidence(0.25), 0.45, None)
    assert read.secrets() == set()


def test_stream_wins_over_defaults_wins_over_model(config) -> None:
    read = config(
        """
model: {path: m.onnx, confidence: {dog: 0.9, default: 0.1}, iou: 0.2, classes: [dog]}
defaults: {iou: 0.3, max_age_ms: 100, tls: {verify: false}, classes: [cat]}
streams:
  model: {url: "rtsps://h/1", classes: null}
  default: {url: "rtsps://h/1", tls: {ca: ca.pem}}
  own: {url: "rtsp://h/1", confidence: 0.4, iou: 0.5, classes: [person], max_age_ms: null, intent: live}
"""
    )
    model, default, own = read.streams
    assert model.confidence == Confidence(0.1, {"dog": 0.9})
    assert (model.confidence.of("dog"), model.confidence.of("cat")) == (0.9, 0.1)
    assert (model.iou, model.classes) == (0.3, None), "null is a value of `classes`: all of them"
    assert (default.classes, default.max_age_ms) == (("cat",), 100)
    assert default.tls.verify is False, "what a stream leaves out of a section stays as in defaults"
    assert default.tls.ca is not None
    assert (own.confidence, own.iou, own.classes, own.max_age_ms) == (Confidence(0.4), 0.5, ("person",), None)


@pytest.mark.parametrize(
    ("url", "kind", "intent"),
    [("rtsp://h/1", Kind.RTSP, "live"), ("RTSPS://h:322/1", Kind.RTSP, "live"), ("http://h/x.m3u8", Kind.HTTP, "auto"),
     ("https://[fe80::1]:8080/x?channel=1", Kind.HTTP, "auto"), ("/dev/video0", Kind.DEVICE, "live"),
     ("v4l2:/dev/video0", Kind.DEVICE, "live"), ("clips/a b.mp4", Kind.FILE, "every"),
     ("rtsp://10.0.0.5/@stream1", Kind.RTSP, "live"), ("file:a.mp4", Kind.FILE, "every")],
)  # fmt: skip
def test_the_intent_follows_from_the_source(config, url: str, kind: Kind, intent: str) -> None:
    (stream,) = config(MODEL + f"streams: {{a: {{url: {json.dumps(url)}}}}}\n").streams
    assert (stream.kind, stream.intent) == (kind, intent)
    assert stream.max_age_ms == (None if intent == "every" else 500)


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:clips/a.mp4", "clips/a.mp4"), ("file:///v/a%20b.mp4", "/v/a%20b.mp4"), ("/v/a.mp4", "/v/a.mp4"),
     ("../a.mp4", "../a.mp4"), ("file:/v/a.mp4", "/v/a.mp4"), ("12", "12")],
)  # fmt: skip
def test_paths_are_relative_to_the_files_folder(config, tmp_path: Path, url: str, path: str) -> None:
    read = config(
        f"""
model: {{path: sub/m.onnx, labels: names.txt}}
runtime: {{cache_dir: cache}}
streams: {{a: {{url: "{url}"}}, b: {{url: "rtsps://h/", tls: {{ca: ca.pem}}}}}}
publish: {{bind: "ipc://run/results.sock", group: video}}
"""
    )
    assert read.streams[0].url == str(tmp_path / path)
    assert read.streams[1].tls.ca == tmp_path / "ca.pem"
    assert read.model.path == tmp_path / "sub/m.onnx"
    assert read.model.labels == tmp_path / "names.txt"
    assert read.runtime.cache_dir == tmp_path / "cache"
    assert read.publish.bind == f"ipc://{tmp_path}/run/results.sock"


def test_a_contract_can_be_written_out(config) -> None:
    read = config(
        """
model:
  path: m.onnx
  size: [320, 640]
  labels: [off, "1"]
  input: {order: bgr, scale: 1, mean: [1, 2.5, 3], std: [1, 1, 1], fit: topleft, fill: 114}
streams: {a: {url: x.mp4}}
"""
    )
    assert read.model.size == (320, 640)
    assert read.model.labels == ("off", "1")
    assert not isinstance(read.model.input, str)
    expected = InputContract(Order.BGR, 1.0, (1.0, 2.5, 3.0), (1.0, 1.0, 1.0), Fit.TOP_LEFT, 114)
    assert read.model.input.contract() == expected


def test_references_stand_for_whole_values(config, tmp_path: Path) -> None:
    (tmp_path / "gate").write_bytes(b"p@ss w\xc3\xb6rd\n\n")
    read = config(
        MODEL
        + "streams: {a: {url: 'rtsp://h/', username: '${env:WHO}', password: '${cred:gate}'},"
        + " b: {url: '${env:CAMERA}'}}\n",
        CREDENTIALS_DIRECTORY=str(tmp_path),
        WHO="viewer",
        CAMERA="http://h/video?user=viewer&password=top%20secret",
    )
    gate, other = read.streams
    assert gate.password is not None
    assert gate.password.get_secret_value() == "p@ss wörd\n", "one trailing newline is cut"
    assert gate.username == "viewer"
    assert other.url.endswith("top%20secret")
    assert other.shown_url == "***"
    assert read.secrets() == {"p@ss wörd\n", other.url, "viewer", "top secret"}


def test_secrets_are_in_nothing_that_shows_a_configuration(config) -> None:
    read = config(
        MODEL
        + "streams: {a: {url: 'rtsp://h/', username: u, password: hunter2}, b: {url: '${env:CAMERA}'}}\n"
        + "defaults: {timeout_s: 7}\n",
        CAMERA="http://h/v?pwd=hunter2",
    )
    shown = [
        repr(read),
        str(read),
        read.model_dump_json(),
        str(read.model_dump(mode="json")),
        write(read.effective()),
    ]
    shown += [
        repr(read.streams),
        f"{read.streams[0]}",
        repr(read.streams[0].password),
        repr(read.model_fields_set),
    ]
    assert not [text for text in shown if "hunter2" in text]
    assert read.effective()["streams"]["a"]["password"] == "***"


def test_a_section_left_empty_is_one_of_defaults(config) -> None:
    read = config(MODEL + "runtime:\nlog:\nstreams: {a: {url: x.mp4}}\n")
    assert read.runtime.fallback is True


def test_a_configuration_is_frozen_and_comparable(config) -> None:
    text = MODEL + "streams: {a: {url: x.mp4, confidence: {p: 1, default: 0}}}\n"
    one, two = config(text), config(text)
    assert one == two
    with pytest.raises(ValueError, match="frozen"):
        one.batch.limit = 3


def keys_of(section: type[Section]) -> set[str]:
    return set(section.model_fields)


def defaults_of(section: type[Section]) -> dict[str, Any]:
    """What a section holds when nothing is written, in the form of the file."""
    required = {name for name, field in section.model_fields.items() if field.is_required()}
    return json.loads(section.model_construct().model_dump_json(exclude=required, warnings=False))


def test_the_example_shows_every_key_with_its_default() -> None:
    written = read_document(EXAMPLE).value
    assert written.keys() == keys_of(File)
    for name, field in File.model_fields.items():
        section = Settings if name == "defaults" else field.annotation
        if name == "streams":
            continue
        shown = dict(written[name])
        shown.pop("path", None)
        if name == "defaults":
            assert "classes" not in shown, "null there means all; left out means as in `model`"
            assert re.search(r"^  # classes: \[", EXAMPLE.read_text(), re.MULTILINE)
            shown["classes"] = None
        assert shown == defaults_of(section), name
    assert written["streams"]["gate"].keys() == keys_of(StreamEntry) - keys_of(Settings)


def test_the_example_loads_and_comes_to_the_defaults() -> None:
    read = load(EXAMPLE, environ={})
    assert read.runtime == File.model_fields["runtime"].default
    assert read.publish == File.model_fields["publish"].default
    assert [stream.id for stream in read.streams] == ["gate"]


def test_every_key_of_the_example_has_a_comment_above_or_beside_it() -> None:
    lines = EXAMPLE.read_text().splitlines()
    bare = [
        line
        for above, line in pairwise(lines)
        if re.match(r"  +[a-z]\w*:", line) and "#" not in line and not above.lstrip().startswith("#")
    ]
    assert [line.strip() for line in bare] == ["iou: null"], "told of with `confidence`, on the line above"


def test_the_effective_values_are_a_configuration_again(config, tmp_path: Path) -> None:
    read = config(
        MODEL + "streams: {a: {url: x.mp4, confidence: {p: 1, default: 0}, region: [[0, 0], [1, 0], [1, 1]]},"
        " b: {url: 'rtsp://h/', classes: ['off', '1e3']}}\n"
    )
    again = tmp_path / "again.yaml"
    again.write_text(write(read.effective()))
    effective = load(again, environ={}).effective()
    assert effective == read.effective()


@pytest.mark.slow
def test_the_schema_takes_what_the_types_take(config, tmp_path: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(yaml.safe_load(EXAMPLE.read_text()))
    full = (
        MODEL + "streams: {a: {url: x.mp4, confidence: {p: 1, default: 0}, video: 2, min_size: [1, 2],"
        " region: [[0, 0], [1, 0], [1, 1]]}}\n"
    )
    config(full)
    validator.validate(yaml.safe_load(full))
    for bad in (
        {"nope": 1},
        {"batch": {"limit": 0}},
        {"streams": {"A": {"url": "x"}}},
        {"log": {"level": "loud"}},
    ):
        assert not validator.is_valid({"model": {"path": "m"}, "streams": {"a": {"url": "x"}}} | bad), bad


def test_faults_are_one_error_type(config) -> None:
    with pytest.raises(ConfigError):
        config("model: 7\n")
