"""Configurations that are not right, made by a seed, and what may come of them."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from streamd.service import document, inspection
from streamd.service.configured import known_names
from streamd.service.faults import ConfigFaultsError
from streamd.service.loading import read
from tests.support.damage import damaged

SLOW_S = 10.0
EXAMPLE = (Path(__file__).parents[2] / "config" / "streamd.yaml").read_text()
CREDENTIAL, PLAIN = "hunter2@credential", "hunter2@plain"
_NO_PLACE = ("larger than", "is empty", "the top level must be")
"""Faults of the file as a whole."""

_TREE: dict[str, Any] = {
    "model": {"path": "model.onnx", "head": "auto", "size": [64, 128], "confidence": {"bit1": 0.5, "default": 0.2}},
    "runtime": {"providers": ["cpu"], "fallback": True, "precision": "fp16", "device": 0},
    "batch": {"limit": 8},
    "defaults": {"max_age_ms": 500, "tls": {"verify": False}, "region": [[0, 0], [1, 0], [1, 1]], "min_size": [4, 4]},
    "streams": {
        "gate": {"url": "rtsp://h/s", "username": "viewer", "password": PLAIN, "transport": "tcp"},
        "yard": {"url": "${cred:url}"},
        "dock": {
            "url": "rtsps://h/s", "username": "${env:USER_NAME}", "password": "${cred:gate}", "tls": {"ca": "a"},
        },
        "file": {"url": "file:a.mp4", "loop": True, "pace": "fast", "intent": "every", "classes": ["a", "b"]},
        "test": {"url": "test:?rate=5&stall=3/1", "max_fps": 3, "enabled": False},
        "web": {"url": "https://h:8443/a.ts", "iou": 0.3, "timeout_s": 2},
    },
    "publish": {"bind": "ipc:///run/streamd/bus", "group": "video"},
    "metrics": {"listen": "127.0.0.1:9560"},
    "log": {"level": "info", "format": "json"},
}  # fmt: skip

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, 10**17, -(10**17), 10**40, float("inf"), float("nan"),
    "", " ", "\0",
    "\x1b[2J", "\n", "a\nb", "\u2028", "\u202e", "ä" * 50, "x" * 70_000, "null", "~", "auto", "007",
    "${cred:gate}", "${env:USER_NAME}", "${env:NONE}", "${cred:../../etc/passwd}", "${cred:}", "${x}",
    "a${env:USER_NAME}",
    "${cred:" + "a" * 5000 + "}", "rtsp://", "rtsp://u:hunter2@plain@h/",
    "rtsp://[::1", "rtsp://h:99999/", "rtsp://h:-1/",
    "rtsp://\0/", "http://h/a b", "file:", "file://host/a", "file:" + "../" * 500, "/dev/video0",
    "/dev/video99999999999",
    "/dev/zero", "test:", "test:?rate=1e999", "test:?stall=1", "test:?rate=-1&size=0x0", "ftp://h/",
    "://", ":", "tcp://*:0",
    "tcp://h", "tcp://h:70000", "tcp://[::]:1", "ipc://", "ipc://" + "a" * 200, "127.0.0.1:99999",
    "h:1:2", "cpu", "fp8",
    [], {}, [[]], [None], {"": ""}, [1, 2], [1, 2, 3], [[0, 0]] * 70, [[0, float("nan")]] * 3,
    [[0, 2], [1, 0], [0, 0]],
    ["cpu", "cpu"], ["cpu", None], {"default": 2}, {"a": "b"}, {1: 2}, {None: 1}, {True: 0},
    {"x" * 300: 1}, {"a\nb": 1},
    {"order": "rgb", "scale": 0, "mean": [0], "std": [0, 0, 0], "fit": "x", "fill": -1},
    {"order": "rgb", "scale": 1e400, "mean": [0, 0, 0], "std": [0, 0, 0], "fit": "center", "fill": 1e300},
)  # fmt: skip


def _laughs(width: int, depth: int) -> str:
    rows = ["a0: &a0 [x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(rows)


_NUMBERS = ("9" * 5000, "0x8", "0o7", "1_0", "1e5", ".5", "٣", "8.0", "1:30")
_WORDS = ("off", "INFO", "2026-01-01", ">", "|", "*x", "&x", "!x", "@x", "`x", "%x")
_ESCAPES = (r"\ud800", r"\U0010ffff", r"\x00", r"\q", "\\")
_KEYS = ("model", "streams", "log", "stream", "Model", "m\u043edel")
_NOTHING = ("", "\n", "#", "---", "...", "null", "[]", "7", "x", "''", "--- |\n a", "{}", "? a")
_TAGS = ("python/object/apply:os.system [x]", "map {}", "binary aGk=")
_GOOD = "model: {path: a.onnx}\nstreams: {a: {url: 'test:'}}\n"
_ABUSES: tuple[Callable[[random.Random], str | bytes], ...] = (
    lambda chance: _laughs(chance.choice((2, 9, 50)), chance.choice((5, 9, 40))),
    lambda chance: _laughs(9, 9).replace("[", "{k: ").replace("]", "}").replace(", ", ", k: "),
    lambda chance: "a: &a [*a]",
    lambda chance: "&a {*a : *a}",
    lambda chance: "a: *b",
    lambda chance: "model: &m {path: a.onnx}\nstreams: &s {a: {url: 'test:'}}\ndefaults: *s\nbatch: *m\n",
    lambda chance: "[" * chance.choice((10, 33, 1000, 50_000)),
    lambda chance: "{a: " * chance.choice((10, 33, 1000, 50_000)),
    lambda chance: "- " * chance.choice((10, 33, 1000, 20_000)),
    lambda chance: "? " * chance.choice((10, 33, 1000, 20_000)),
    lambda chance: "\n".join(" " * n + "a:" for n in range(chance.choice((10, 40, 900)))),
    lambda chance: _GOOD + "x" * chance.choice((1 << 10, 1 << 19, 1 << 21)),
    lambda chance: _GOOD + "\n".join(f"k{n}: {n}" for n in range(chance.choice((100, 20_000)))),
    lambda chance: "streams:\n" + "\n".join(f"  s{n}: {{url: 'test:'}}" for n in range(chance.choice((65, 3000)))),
    lambda chance: "model: {size: [" + "1, " * chance.choice((10, 30_000)) + "]}",
    lambda chance: _GOOD.encode("utf-16"),
    lambda chance: b"\xef\xbb\xbf" + _GOOD.encode(),
    lambda chance: _GOOD.encode().replace(b"a", b"\xff", 1),
    lambda chance: _GOOD.replace("\n", chance.choice(("\r", "\r\n", "\x85", "\u2028", "\0", "\x0b"))),
    lambda chance: _GOOD.replace(" ", "\t"),
    lambda chance: f"%YAML {chance.choice(('1.1', '1.2', '9.9', 'x'))}\n---\n{_GOOD}",
    lambda chance: _GOOD + "---\n" + _GOOD,
    lambda chance: _GOOD + "...\nrubbish: [",
    lambda chance: chance.choice(_NOTHING),
    lambda chance: "<<: {model: {path: a.onnx}}\n" + _GOOD,
    lambda chance: f"model: !!{chance.choice(_TAGS)}\n",
    lambda chance: f"batch: {{limit: {chance.choice(_NUMBERS)}}}\n{_GOOD}",
    lambda chance: f"{_GOOD}log: {{level: {chance.choice(_WORDS)}}}",
    lambda chance: f'{_GOOD}log: {{level: "{chance.choice(_ESCAPES)}"}}',
    lambda chance: f"{_GOOD}{chance.choice(_KEYS)}: {{}}",
)  # fmt: skip


def config_of(seed: int) -> bytes:
    """The configuration of a seed: a changed tree, changed lines, an abuse of YAML, or changed bytes."""
    chance = random.Random(seed)
    kind = seed % 4
    if kind == 0:
        return _changed_tree(chance).encode("utf-8", "surrogatepass")
    if kind == 1:
        return _changed_lines(chance).encode()
    if kind == 2:
        text = chance.choice(_ABUSES)(chance)
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        return content if chance.random() < 0.7 else damaged(content, seed, [EXAMPLE.encode()])
    base = chance.choice((EXAMPLE, yaml.safe_dump(_TREE, sort_keys=False))).encode()
    return damaged(base, seed, [EXAMPLE.encode(), _laughs(9, 9).encode()])


def _changed_tree(chance: random.Random) -> str:
    tree = copy.deepcopy(_TREE)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(tree, chance)
    flow = chance.choice((None, False, True))
    text = yaml.dump(tree, default_flow_style=flow, sort_keys=False, allow_unicode=chance.random() < 0.5)
    return text if chance.random() < 0.8 else text.replace("'", chance.choice(('"', "")))


def _change(tree: dict[str, Any], chance: random.Random) -> None:
    places = list(_places(tree))
    holder, key = chance.choice(places)
    other, other_key = chance.choice(places)
    match chance.choice(("value", "value", "value", "drop", "rename", "copy", "wrap", "extra", "bury")):
        case "value":
            holder[key] = copy.deepcopy(chance.choice(_VALUES))
        case "drop":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            value = holder.pop(key)
            holder[
                chance.choice(("x", "", "Url", "URL", str(key) + "s", "_daemon", "a/b", "ä", 7, "k" * 200))
            ] = value
        case "copy":
            # The same object twice: written as an anchor and its alias.
            if not _holds(other[other_key], holder):
                holder[key] = other[other_key]
        case "wrap":
            holder[key] = chance.choice(([holder[key]], {"value": holder[key]}, {str(key): holder[key]}))
        case "extra" if isinstance(holder, dict):
            name = chance.choice(("password", "classes", "url", "tls", "curve", "frames", "x y"))
            holder[name] = copy.deepcopy(chance.choice(_VALUES))
        case "bury":
            for _ in range(chance.choice((3, 31, 60))):
                holder[key] = [holder[key]]


def _places(tree: Any) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def _holds(value: Any, holder: Any) -> bool:
    return value is holder or any(parent[key] is holder for parent, key in _places(value))


def _changed_lines(chance: random.Random) -> str:
    lines = chance.choice((EXAMPLE, yaml.safe_dump(_TREE, sort_keys=False))).splitlines()
    for _ in range(chance.choice((1, 2, 5))):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        line = lines[at]
        lines[at : at + 1] = chance.choice(
            ([], [line, line], ["  " + line], [line[1:]], ["\t" + line], [line[: len(line) // 2]], [lines[other]],
             [line + ":"], [line.replace(":", "")], ["- " + line], [line + " &a"], [line.partition(":")[0] + ": *a"],
             [line.partition(":")[0] + ": " + str(chance.choice(_VALUES))[:200]], ["# " + line], [line.lstrip(" #")])
        )  # fmt: skip
        if not lines:
            break
    return "\n".join(lines)


def refused_or_taken(seed: int, folder: Path) -> str:
    """Reads a seed's configuration; "taken" or "refused". Raises AssertionError for what must not be.

    folder: with the credentials `url` and `gate`. Any other exception is what is looked for.
    """
    path = folder / "streamd.yaml"
    content = config_of(seed)
    path.write_bytes(content)
    environ = {"CREDENTIALS_DIRECTORY": str(folder), "USER_NAME": "viewer"}
    started = time.thread_time()
    try:
        reading = read(path, tables=known_names(), environ=environ)
        inspection.absent_files(reading)
        if faults := inspection.key_faults(reading):
            raise ConfigFaultsError(faults)
        shown = document.write(reading.config.effective()) + "\n".join(inspection.summary(reading.config))
        outcome = "taken"
    except ConfigFaultsError as error:
        _judge(error, content, path)
        shown, outcome = str(error), "refused"
    took_s = time.thread_time() - started
    assert took_s < SLOW_S, f"{took_s:.1f} s"
    assert CREDENTIAL not in shown
    # What is taken may have it at a key that is no password; a refusal quotes nothing.
    assert PLAIN not in shown or outcome == "taken", shown
    return outcome


def _judge(error: ConfigFaultsError, content: bytes, path: Path) -> None:
    assert error.faults
    assert error.exit_code in (1, 2)
    # The line breaks of YAML 1.1, which PyYAML counts.
    last = len(content.decode("utf-8", "replace").splitlines()) + 1
    for fault in error.faults:
        line = str(fault)
        assert line.startswith(f"{path}:"), line
        assert line.isprintable(), ascii(line)
        assert len(line) < 1000, line
        assert "None" not in line, line
        assert "Error" not in line, line
        assert "pydantic" not in line, line
        if fault.place is None:
            assert fault.problem.startswith(_NO_PLACE), line
        else:
            assert 1 <= fault.place.line <= last, line


def write_credentials(folder: Path) -> None:
    """The credentials that the configurations refer to."""
    (folder / "url").write_text(f"rtsp://h/s?key={CREDENTIAL}\n")
    (folder / "gate").write_text(CREDENTIAL + "\n")
