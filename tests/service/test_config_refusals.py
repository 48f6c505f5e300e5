"""Every way in which a configuration can be wrong is one line with file, line, key and what is allowed."""

# ruff: noqa: E501 - a table row is easier to read on one line
from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.core.errors import ConfigError
from streamd.service.faults import ConfigFaultsError
from streamd.service.loading import Tables, load

GOOD = """\
model: {path: m.onnx}
streams:
  gate:
    url: rtsp://10.0.0.5/stream1
"""
TABLES = Tables(heads=("yolox", "yolo", "detr"), inputs=("yolox", "ultralytics"))


def faults(tmp_path: Path, text: str, **environ: str) -> ConfigFaultsError:
    file = tmp_path / "streamd.yaml"
    file.write_text(text)
    with pytest.raises(ConfigFaultsError) as caught:
        load(file, tables=TABLES, environ=environ)
    error = caught.value
    assert str(error).splitlines() == [str(fault) for fault in error.faults], "one line for each fault"
    return error


def stream(settings: str) -> str:
    return GOOD + f"    {settings}\n"


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        # the file as a whole
        ("model: {path: m}\n", 1, "streams", "is missing"),
        ("model: {path: m}\nstreams: {}\n", 2, "streams", "at least one stream"),
        ("model: {path: m}\nstreams:\n", 2, "streams", "at least one stream"),
        ("streams: {a: {url: x}}\n", 1, "model", "is missing"),
        ("model:\nstreams: {a: {url: x}}\n", 1, "model.path", "is missing"),
        (GOOD + "stream: {}\n", 5, "stream", "did you mean `streams`?"),
        (GOOD + "zzz: {}\n", 5, "zzz", "the keys here are model, runtime"),
        (GOOD + "batch: 8\n", 5, "batch", "must be a mapping"),
        (GOOD + "  gate: {url: y}\n", 5, "gate", "stands twice, first on line 3"),
        # sections
        (GOOD + "batch: {limit: 0}\n", 5, "batch.limit", "must be a whole number from 1 to 256, not 0"),
        (GOOD + "batch: {limit: 2.5}\n", 5, "batch.limit", "must be a whole number from 1 to 256, not 2.5"),
        (GOOD + "batch: {limit: '8'}\n", 5, "batch.limit", "must be a whole number from 1 to 256"),
        (GOOD + "batch: {limit: true}\n", 5, "batch.limit", "must be a whole number"),
        (GOOD + "batch: {limits: 8}\n", 5, "batch.limits", "did you mean `limit`?"),
        (GOOD + "runtime: {fallback: off}\n", 5, "runtime.fallback", "must be true or false"),
        (GOOD + "runtime: {providers: []}\n", 5, "runtime.providers", "must be a list of tensorrt, cuda and cpu"),
        (GOOD + "runtime: {providers: [cpu, cpu]}\n", 5, "runtime.providers", "at most once"),
        (GOOD + "runtime: {providers: [gpu]}\n", 5, "runtime.providers.0", "one of tensorrt, cuda, cpu"),
        (GOOD + "runtime: {precision: int8}\n", 5, "runtime.precision", "one of fp16, fp32"),
        (GOOD + "runtime: {device: -1}\n", 5, "runtime.device", "not -1"),
        (GOOD + "log: {level: verbose}\n", 5, "log.level", "one of trace, debug, info, warning, error"),
        (GOOD + "metrics: {listen: 9560}\n", 5, "metrics.listen", "must be HOST:PORT, or null"),
        (GOOD + "metrics: {listen: 'h:99999'}\n", 5, "metrics.listen", "must be HOST:PORT"),
        (GOOD + "publish: {bind: 'tcp://*'}\n", 5, "publish.bind", "must be tcp://HOST:PORT or ipc://PATH"),
        (GOOD + "publish: {bind: 'tcp://h:70000'}\n", 5, "publish.bind", "PORT from 0"),
        (GOOD + "publish: {bind: 'udp://h:1'}\n", 5, "publish.bind", "must be tcp://HOST:PORT or ipc://PATH"),
        (GOOD + "publish: {bind: 'tcp://u:p@h:1'}\n", 5, "publish.bind", "must be tcp://HOST:PORT"),
        (GOOD + "publish: {bind: 'ipc://'}\n", 5, "publish.bind", "where PATH is a file"),
        (GOOD + "publish: {bind: 'ipc://@abstract'}\n", 5, "publish.bind", "where PATH is a file"),
        (GOOD + f"publish: {{bind: 'ipc:///{'x' * 120}'}}\n", 5, "publish.bind", "longer than a socket's may be"),
        (GOOD + "publish: {group: video}\n", 5, "publish.group", "only for ipc://"),
        (GOOD + "publish: {frames_quality: 0}\n", 5, "publish.frames_quality", "from 1 to 100"),
        # the model
        ("model: {path: ''}\nstreams: {a: {url: x}}\n", 1, "model.path", "must be a path"),
        ("model: {path: m, head: yoloxx}\nstreams: {a: {url: x}}\n", 1, "model.head", "did you mean `yolox`?"),
        ("model: {path: m, head: zz}\nstreams: {a: {url: x}}\n", 1, "model.head", "one of auto, detr, yolo, yolox"),
        ("model: {path: m, input: zz}\nstreams: {a: {url: x}}\n", 1, "model.input", "one of auto, ultralytics"),
        ("model: {path: m, input: [1]}\nstreams: {a: {url: x}}\n", 1, "model.input", "must be auto, the name"),
        ("model: {path: m, input: {order: rgb}}\nstreams: {a: {url: x}}\n", 1, "model.input.scale", "is missing"),
        ("model: {path: m, size: 640}\nstreams: {a: {url: x}}\n", 1, "model.size", "[height, width]"),
        ("model: {path: m, size: [640, 0]}\nstreams: {a: {url: x}}\n", 1, "model.size", "[height, width]"),
        ("model: {path: m, labels: []}\nstreams: {a: {url: x}}\n", 1, "model.labels", "a list of names"),
        ("model: {path: m, confidence: 1.5}\nstreams: {a: {url: x}}\n", 1, "model.confidence", "not 1.5"),
        ("model: {path: m, confidence: {p: 1}}\nstreams: {a: {url: x}}\n", 1, "model.confidence", "needs `default`"),
        ("model: {path: m, classes: []}\nstreams: {a: {url: x}}\n", 1, "model.classes", "a list of class names"),
        # streams
        ("model: {path: m}\nstreams:\n  Gate: {url: x}\n", 3, "streams.Gate", "an id is made of a-z"),
        ("model: {path: m}\nstreams:\n  -x: {url: x}\n", 3, "streams.-x", "an id is made of a-z"),
        ("model: {path: m}\nstreams:\n  a/b: {url: x}\n", 3, "streams.?", "an id is made of a-z"),
        ("model: {path: m}\nstreams:\n  a: x.mp4\n", 3, "streams.a", "must be a mapping"),
        ("model: {path: m}\nstreams:\n  a:\n", 3, "streams.a", "must be a mapping"),
        ("model: {path: m}\nstreams:\n  a: {}\n", 3, "streams.a.url", "is missing; it must be rtsp://"),
        ("model: {path: m}\nstreams:\n  a: {url: ''}\n", 3, "streams.a.url", "must be rtsp://"),
        ("model: {path: m}\nstreams:\n  a: {url: 'rtmp://h/x'}\n", 3, "streams.a.url", "must be rtsp://"),
        ("model: {path: m}\nstreams:\n  a: {url: 'rtsp://'}\n", 3, "streams.a.url", "must be rtsp://HOST"),
        ("model: {path: m}\nstreams:\n  a: {url: 'rtsp:/h'}\n", 3, "streams.a.url", "must be rtsp://HOST"),
        ("model: {path: m}\nstreams:\n  a: {url: 'rtsp://h:0/'}\n", 3, "streams.a.url", "must be rtsp://HOST"),
        ("model: {path: m}\nstreams:\n  a: {url: 'rtsp://h/a b'}\n", 3, "streams.a.url", "write it as %20"),
        ("model: {path: m}\nstreams:\n  a: {url: 'file:'}\n", 3, "streams.a.url", "names nothing"),
        ("model: {path: m}\nstreams:\n  a: {url: 'file://host/x'}\n", 3, "streams.a.url", "names a host"),
        ("model: {path: m}\nstreams:\n  a: {url: ' rtsp://h/'}\n", 3, "streams.a.url", "starts or ends with a blank"),
        (stream("pasword: x"), 5, "streams.gate.pasword", "did you mean `password`?"),
        (stream("username: u"), 5, "streams.gate.username", "needs `password`"),
        (stream("password: p"), 5, "streams.gate.password", "needs `username`"),
        (stream("password: 123"), 5, "streams.gate.password", "must be text; put a number into quotes"),
        (stream("pace: fast"), 5, "streams.gate.pace", "only for files"),
        (stream("loop: true"), 5, "streams.gate.loop", "only for files"),
        (stream("tls: {verify: false}"), 5, "streams.gate.tls", "only for rtsps:// and https://"),
        (stream("tls: {verfy: false}"), 5, "streams.gate.tls.verfy", "did you mean `verify`?"),
        (stream("region: [[0, 0], [1, 1]]"), 5, "streams.gate.region", "a list of 3 to 64 points"),
        (stream("region: [[0, 0], [1, 1], [2, 0]]"), 5, "streams.gate.region.2.0", "from 0 to 1, not 2"),
        (stream("region: [[0, 0], [0.5, 0.5], [1, 1]]"), 5, "streams.gate.region", "must enclose an area"),
        (stream("min_size: [1]"), 5, "streams.gate.min_size", "[width, height]"),
        (stream("timeout_s: 0"), 5, "streams.gate.timeout_s", "seconds from 0.1 to 300, not 0"),
        (stream("timeout_s: 1e999"), 5, "streams.gate.timeout_s", "seconds from 0.1 to 300"),
        (stream("timeout_s: .inf"), 5, "streams.gate.timeout_s", "seconds from 0.1 to 300"),
        (stream("max_fps: -1"), 5, "streams.gate.max_fps", "above 0"),
        (stream("max_age_ms: 0"), 5, "streams.gate.max_age_ms", "or null, not 0"),
        (stream("intent: fast"), 5, "streams.gate.intent", "one of auto, live, every"),
        (stream("enabled: yes"), 5, "streams.gate.enabled", "true or false"),
        (stream("video: -1"), 5, "streams.gate.video", "must be best, or"),
        (GOOD + "publish: {curve: true}\n", 5, "publish.curve", "must be a path"),
        (GOOD + "publish: {frames: 'tcp://h'}\n", 5, "publish.frames", "tcp://HOST:PORT"),
        (GOOD + "publish: {frames: 'tcp://127.0.0.1:5560'}\n", 5, "publish.frames", "endpoint of publish.bind"),
        (GOOD + "publish: {bind: 'ipc:///r/a', frames: 'ipc:///r/a'}\n", 5, "publish.frames", "of publish.bind"),
        (GOOD + "publish: {frames: 'tcp://h:1', frames_max_fps: 0}\n", 5, "publish.frames_max_fps", "above 0"),
        (GOOD + "publish: {frames: 'tcp://h:1', group: video}\n", 5, "publish.group", "only for ipc://"),
        ("model: {path: m}\nstreams:\n  a: {url: 'test:bars'}\n", 3, "streams.a.url", "after a question mark"),
        ("model: {path: m}\nstreams:\n  a: {url: 'test:?rate=0'}\n", 3, "streams.a.url", "rate=25, above 0"),
        ("model: {path: m}\nstreams:\n  a: {url: x, transport: tcp}\n", 3, "streams.a.transport", "only for rtsp://"),
        ("model: {path: m}\nstreams:\n  a: {url: x, intent: every, max_age_ms: 5}\n", 3, "streams.a.max_age_ms", "live"),
    ],
)  # fmt: skip
def test_one_fault_one_line(tmp_path: Path, text: str, line: int, key: str, said: str) -> None:
    error = faults(tmp_path, text)
    assert error.exit_code == 2
    found = [fault for fault in error.faults if fault.key == key and said in fault.problem]
    assert len(found) == 1, str(error)
    assert str(found[0]).startswith(f"{tmp_path / 'streamd.yaml'}:{line}: {key}: ")


def test_a_single_mistake_is_told_once(tmp_path: Path) -> None:
    for text in (GOOD + "runtime: {providers: [gpu]}\n", stream("region: [[0, 0], [1, 1], [2, 0]]")):
        assert len(faults(tmp_path, text).faults) == 1
    assert len(faults(tmp_path, stream("min_size: [x, -1]")).faults) == 1


def test_every_fault_is_collected_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = faults(
        tmp_path,
        "model: {path: m, iou: 2}\nbatch: {limit: 0}\nbatch: {limit: 1}\nstreams:\n"
        "  a: {url: 'rtsp://u:p@h/'}\n  b: {url: '${env:NO}', pace: 7}\n  c: {url: x}\n",
    )
    assert [fault.place.line for fault in error.faults if fault.place] == [1, 2, 3, 5, 6, 6]
    assert error.exit_code == 2, "one missing variable beside faults of the file: the file must change"


@pytest.mark.parametrize(
    "url",
    ["rtsp://admin:hunter2@10.0.0.5/s", "rtsp://hunter2@h/", "http://u:hunter2@h:8080/v", "rtsp://u:p@ss/hunter2@h/",
     "rtsp://u:hunter2#x@h/", "rtsp://u:hunter2?x@h/", "http://h/v?user=u&password=hunter2", "http://h/v?pwd=hunter2", "http://h/v?Passwort=hunter2", " rtsp://u:hunter2@h/", "rtsp:\\\\u:hunter2@h/",
     "rtsp://h/user=u_password=hunter2_channel=1", "rtsps://h/?token=hunter2", "u:hunter2@h/s", "rtsp://u:hunter2@h h/",
     "RTSP://u:hunter2@h/"],
)  # fmt: skip
def test_credentials_in_an_address_are_refused_and_never_shown(tmp_path: Path, url: str) -> None:
    error = faults(tmp_path, f"model: {{path: m}}\nstreams:\n  a:\n    url: {url!r}\n")
    (fault,) = error.faults
    assert fault.key == "streams.a.url"
    assert "hunter2" not in str(error) + repr(error) + repr(error.faults)
    if "://" in url.lstrip() and not url.startswith(" "):
        assert "`username` and `password`" in fault.problem


def test_a_user_in_an_address_is_refused_also_from_a_credential(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("rtsp://u:hunter2@h/\n")
    text = "model: {path: m}\nstreams: {a: {url: '${cred:c}'}}\n"
    error = faults(tmp_path, text, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert "`username` and `password`" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("${env:GATE}", "${env:GATE}: the environment variable GATE is not set"),
        ("${cred:gate}", "LoadCredential=gate:FILE"),
        ("${cred:broken}", "is not UTF-8"),
        ("${cred:huge}", "larger than"),
        ("${cred:folder}", "cannot be read"),
        ("${cred:pipe}", "is no file"),
        ("${env:BYTES}", "is not UTF-8"),
    ],
)
def test_an_unset_reference_is_for_a_restart_to_mend(tmp_path: Path, value: str, said: str) -> None:
    store = tmp_path / "store"
    (store / "folder").mkdir(parents=True)
    (store / "broken").write_bytes(b"\xffhunter2")
    (store / "huge").write_bytes(b"x" * 70_000)
    os.mkfifo(store / "pipe")
    # What the environment has that is no text comes like this.
    given = {"CREDENTIALS_DIRECTORY": str(store), "BYTES": b"\xffhunter2".decode(errors="surrogateescape")}
    for environ in (given, {}):
        error = faults(tmp_path, stream(f"username: u\n    password: {value}"), **environ)
        (fault,) = error.faults
        assert (fault.key, fault.missing, error.exit_code) == ("streams.gate.password", True, 1)
        assert "hunter2" not in str(error)
        if environ:
            assert said in str(error)


@pytest.mark.parametrize(
    "value",
    ["x${env:A}", "${env:A}x", "${env:A}${env:B}", "a ${cred:b}", "${ENV:A}", "${env: A}", "${cred:../etc/passwd}",
     "${cred:}", "${cred:/etc/passwd}", "${credential:a}", "${HOME}", "${env:A B}", "${cred:.hidden}"],
)  # fmt: skip
def test_a_reference_is_a_whole_value(tmp_path: Path, value: str) -> None:
    text = stream(f"username: u\n    password: {value!r}")
    error = faults(tmp_path, text, A="hunter2", B="hunter2", CREDENTIALS_DIRECTORY="/etc")
    assert ["never a part of one" in fault.problem for fault in error.faults] == [True]
    assert error.exit_code == 2
    assert "hunter2" not in str(error)


def test_texts_of_the_file_are_never_quoted(tmp_path: Path) -> None:
    text = """
model: {path: m, head: hunter2, input: hunter2, size: hunter2, iou: hunter2, confidence: hunter2, classes: hunter2}
runtime: hunter2
log: {level: hunter2}
publish: {bind: hunter2, frames: hunter2, group: [hunter2]}
metrics: {listen: hunter2}
defaults: {transport: hunter2, tls: hunter2, region: hunter2, video: hunter2, max_fps: hunter2}
streams:
  rtsp://u:hunter2@h/: {url: hunter2://x}
  a: rtsp://u:hunter2@h/
  b: {url: x, password: [hunter2], username: {hunter2: 1}}
"""
    error = faults(tmp_path, text)
    shown = "".join(traceback.format_exception(error)).replace("streams.b.username.hunter2", "")
    assert "hunter2" not in shown
    assert len(error.faults) > 15


VALUES = st.recursive(
    st.sampled_from(["null", "true", "off", "0", "-1", "1e9", "1e999", "''", "x", "'${env:A}'", "'${x}'", "rtsp://h/", "[]", "{}", "'\\u0000'", '"\\0"', "ä", "*a", "!x"])
    | st.text("ab:/@#%{}[]&*!|>'\" \n-0.", max_size=12),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    | st.dictionaries(st.sampled_from(["url", "default", "path", "order", "verify", "x", "1"]), inner, max_size=3).map(
        lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
    ),
    max_leaves=5,
)  # fmt: skip
EXAMPLE = (Path(__file__).parents[2] / "config" / "streamd.yaml").read_text().splitlines()
KEYED = [at for at, line in enumerate(EXAMPLE) if ":" in line and not line.lstrip().startswith("#")]


@pytest.mark.slow
@given(st.sampled_from(KEYED), VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_value_at_any_key_is_taken_or_refused_in_lines(tmp_path: Path, at: int, value: str) -> None:
    lines = list(EXAMPLE)
    lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    _loads_or_refuses(tmp_path, "\n".join(lines))


@pytest.mark.slow
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_damage_to_the_example_is_taken_or_refused_in_lines(tmp_path: Path, data: st.DataObject) -> None:
    lines = list(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "twice", "indent", "cut", "swap"]))
        line = lines[at]
        other = data.draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = {
            "drop": [""], "twice": [line, line], "indent": ["  " + line], "cut": [line[: len(line) // 2]],
            "swap": [lines[other]],
        }[change]  # fmt: skip
    _loads_or_refuses(tmp_path, "\n".join(lines))


def _loads_or_refuses(tmp_path: Path, text: str) -> None:
    file = tmp_path / "streamd.yaml"
    file.write_text(text)
    try:
        load(file, environ={})
    except ConfigError as error:
        message = str(error)
    else:
        return
    lines = message.splitlines()
    assert lines
    assert all(line.startswith(f"{file}") for line in lines)
    assert not [line for line in lines if "Error" in line or "pydantic" in line or "None" in line]
