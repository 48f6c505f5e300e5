"""Every block of code in the documentation is run, parsed, or known to be something shown; and no link is dead."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streamd.bus.recording import SCHEMA, Recording
from streamd.service.loading import load
from tests.docs import PAGES, ROOT, Block, blocks, commands, in_languages
from tests.support.command import run_inline

_SHOWN = ("", "text", "mermaid")
_DONE = {
    "run": ("python",),
    "read": ("yaml", "json"),
    "compared with the options that there are": ("sh", "console"),
    "shown": _SHOWN,
}
_OF_THE_SYSTEM = {
    "cd": "a folder of the reader's",
    "source": "a virtual environment of the reader's",
    ".": "a virtual environment of the reader's",
    "git": "the clone is the one that is tested",
    "apt-get": "Debian's packages, as root: .ci/run installs those of the tests",
    "install": "as root",
    "useradd": "as root",
    "chown": "as root",
    "chmod": "as root",
    "mkdir": "the reader's folders",
    "cp": "the reader's files",
    "cat": "the reader's files",
    "systemctl": "a machine that systemd runs: tests/service/test_systemd_daemon.py plays its part",
    "journalctl": "a machine that systemd runs",
    "systemd-ask-password": "a machine that systemd runs",
    "systemd-analyze": "tests/service/test_unit.py runs it on the unit",
    "nvidia-smi": "a machine with an NVIDIA driver",
    "curl": "a daemon of the reader's: tests/service/test_pages.py asks its pages",
    "mosquitto": "an MQTT broker: tests/examples start one",
    "mosquitto_sub": "an MQTT broker: tests/examples start one",
    "npm": "Node.js: tests/examples run it where it is",
    "node": "Node.js: tests/examples run it where it is",
    "jupyter": "tests/examples run the notebook",
    "uv": "uv is not among what tests need",
    "hatch": "its scripts are compared with pyproject.toml below",
    "pre-commit": "tests/packaging/test_hooks.py runs its hooks",
    "ulimit": "the reader's shell",
    "ss": "the reader's sockets",
    "timedatectl": "the reader's clock",
    "df": "the reader's disks",
    "ls": "the reader's files",
    "kill": "the reader's processes",
    "ffplay": "FFmpeg's own tools",
    "ffmpeg": "FFmpeg's own tools",
}
"""Commands that are not streamd's: what keeps a test from running them."""


def _project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def _options(*verb: str) -> set[str]:
    shown = run_inline(*verb, "--help")
    assert shown.returncode == 0, f"streamd {' '.join(verb)}: {shown.stderr}"
    return set(re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][a-z0-9-]*", shown.stdout))


@cache
def _verbs(*group: str) -> set[str]:
    shown = run_inline(*group, "--help").stdout
    return set(re.findall(r"(?m)^  ([a-z]+) ", shown.partition("Commands:")[2]))


def test_every_block_is_of_a_kind_that_is_looked_at(record_property: pytest.RecordProperty) -> None:
    """Counts what is done with each block; and no command is left out without a reason."""
    done: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for block in blocks():
        what = next((what for what, languages in _DONE.items() if block.language in languages), None)
        assert what is not None, f"{block}: nothing looks at {block.language}"
        done[what] = done.get(what, 0) + 1
        if block.language == "sh":
            names = {words[0].rpartition("/")[2] for words in commands(block.text)}
            left_out |= {name: _OF_THE_SYSTEM[name] for name in sorted(names & _OF_THE_SYSTEM.keys())}
    record_property("blocks", done)
    record_property("commands that are not compared with anything", left_out)
    print(f"{sum(done.values())} blocks of code: {done}; not compared with anything: {left_out}")
    assert set(done) == set(_DONE)


@pytest.mark.parametrize("block", in_languages(*_SHOWN), ids=str)
def test_what_is_only_shown_is_nothing_that_could_be_looked_at(block: Block) -> None:
    assert not re.search(r"(?m)^\s*(import|from \S+ import) ", block.text), "Python, and would be run"
    with pytest.raises(json.JSONDecodeError):
        json.loads(block.text)


@pytest.mark.slow
@pytest.mark.parametrize("block", in_languages("sh"), ids=str)
def test_every_command_is_there_with_its_options(block: Block) -> None:
    found = commands(block.text)
    assert found
    for words in found:
        _check_command(words)


@pytest.mark.parametrize("block", in_languages("console"), ids=str)
def test_every_command_of_a_screen_is_there(block: Block) -> None:
    typed = re.findall(r"(?m)^\$ (.*)", block.text)
    assert typed
    for words in commands("\n".join(typed)):
        _check_command(words)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_prose_is_there_with_its_options(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for told in re.findall(r"`(streamd [a-z][^`]*|pytest [^`]*|python -m [^`]*)`", text):
        for words in commands(told.replace("...", "x").replace("\n", " ").replace("|", "/")):
            _check_command(words)


def _check_command(words: list[str]) -> None:
    name = words[0].rpartition("/")[2]
    if name == "streamd":
        _check_streamd(words[1:])
    elif name in ("python", "python3") and words[1:2] == ["-m"]:
        assert importlib.util.find_spec(words[2]) is not None, words
    elif name in ("python", "python3"):
        assert any((ROOT / folder / words[1]).exists() for folder in ("", "examples")), words
    elif name in ("pip", "pip3"):
        _check_pip(words[1:])
    elif name in ("pytest", "bash"):
        _check_paths(words[1:])
    elif name == "hatch":
        scripts = _project()["tool"]["hatch"]["envs"]["default"]["scripts"]  # type: ignore[index]
        assert words[1] != "run" or words[2] in {*scripts, "NAME"}, words
    else:
        assert name in _OF_THE_SYSTEM, f"{' '.join(words)}: neither tested nor known"


def _check_streamd(words: list[str]) -> None:
    verb: tuple[str, ...] = ()
    while words and words[0] in _verbs(*verb):
        verb, words = (*verb, words[0]), words[1:]
        if verb not in (("service",), ("keys",), ("models",)):
            break
    assert verb or not words or words[0].startswith("-"), f"streamd {' '.join(words)}: no such verb"
    known = _options(*verb)
    for word in words:
        option = word.partition("=")[0]
        if re.fullmatch(r"-{1,2}[a-zA-Z][a-z0-9-]*", option):
            assert option in known, f"streamd {' '.join(verb)} {option}: no such option"


def _check_pip(words: list[str]) -> None:
    extras = set(_project()["project"]["optional-dependencies"])  # type: ignore[index]
    for word in words:
        if asked := re.fullmatch(r"(?:\.|streamd)\[([a-z,]+)\]", word):
            assert set(asked[1].split(",")) <= extras, word


def _check_paths(words: list[str]) -> None:
    for word in words:
        if "/" in word and not word.startswith("-") and "..." not in word:
            assert (ROOT / word.partition("::")[0]).exists(), word


@pytest.mark.parametrize("block", in_languages("yaml"), ids=str)
def test_every_yaml_is_a_configuration_or_part_of_one(block: Block, tmp_path: Path) -> None:
    document = yaml.safe_load(block.text) or {}
    keys = set(yaml.safe_load((ROOT / "config" / "streamd.yaml").read_text()))
    if "groups" in document:
        return  # rules for Prometheus: tests/test_operations.py compares them with the metrics
    if {"model", "streams"} <= document.keys():
        (tmp_path / "streamd.yaml").write_text(block.text)
        for name in re.findall(r"\$\{cred:(\w+)\}", block.text):
            (tmp_path / name).write_text("x")
        environ = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", block.text), "x")
        load(tmp_path / "streamd.yaml", environ={**environ, "CREDENTIALS_DIRECTORY": str(tmp_path)})
        return
    known = (ROOT / "config" / "streamd.yaml").read_text()
    for key in re.findall(r"(?m)^\s*([a-z_]+):", block.text):
        assert key in keys or re.search(rf"\b{key}:", known), f"{block}: {key}"


@pytest.mark.parametrize("block", in_languages("json"), ids=str)
def test_every_json_is_a_message_that_its_schema_takes(block: Block) -> None:
    if f'"{SCHEMA}"' in block.text:
        found = Recording(io.BytesIO(block.text.encode()), str(block))
        assert list(found.messages())
        assert found.fault is None
        return
    message = json.loads(block.text)
    name = message.get("schema")
    schemas = [schema for schema in _schemas() if schema["properties"]["schema"]["enum"] == [name]]
    assert schemas, f"{block}: there is no schema {name}"
    assert any(jsonschema.Draft202012Validator(schema).is_valid(message) for schema in schemas), name


@cache
def _schemas() -> list[dict[str, Any]]:
    folder = ROOT / "streamd" / "assets" / "schemas"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_dead(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
