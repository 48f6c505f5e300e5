"""What docs/TROUBLESHOOTING.md, and doctor's part of docs/OPERATIONS.md, name is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from streamd.core.errors import Reason
from streamd.diagnosis.table import CHECKS
from streamd.pipeline.ledger import Drop
from streamd.service.schema import json_schema
from tests.support.command import run_inline

DOCS = Path(__file__).parent.parent / "docs"
TEXT = (DOCS / "TROUBLESHOOTING.md").read_text()
SPANS = re.findall(r"`([^`\n]+)`", TEXT) + re.findall(r"```sh\n(.*?)\n```", TEXT, re.DOTALL)
COMMANDS = sorted(
    {
        match[1]
        for span in SPANS
        if (match := re.search(r"(?:^|[ /])streamd ([a-z]+\b.*)", span)) and "; streamd" not in span
    }
)
OTHERS = {
    *("pip", "python3", "systemctl", "journalctl", "nvidia-smi", "nvidia-modprobe", "docker", "reboot"),
    *("ls", "df", "groupadd", "timedatectl"),
}


@cache
def help_of(*words: str) -> str:
    result = run_inline(*words, "--help")
    assert result.returncode == 0, words
    return result.stdout


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_streamd_is_there(command: str) -> None:
    words = command.split()
    verb = words[:2] if words[0] in ("service", "keys") else words[:1]
    if verb[0].startswith("-"):
        verb = []
    shown = help_of(*verb)
    for word in words[len(verb) :]:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", shown), (command, word)


def test_every_other_command_is_one_that_a_box_has() -> None:
    starts = {
        span.split()[0].rpartition("/")[2]
        for span in SPANS
        if re.match(r"[a-z0-9/-]+ -{1,2}\w|pip |sys", span)
    }
    assert starts - {"streamd", "CREDENTIALS_DIRECTORY=/etc/streamd/credentials"} <= OTHERS


def test_reasons_and_metrics_are_those_that_there_are() -> None:
    rows = re.findall(r"(?m)^\| `([a-z_]+)` counts", TEXT)
    assert rows
    assert set(rows) <= set(map(str, Drop))
    lost = {
        word for row in re.findall(r"(?m)^\| `lost`, (.*?) \|", TEXT) for word in re.findall(r"`(\w+)`", row)
    }
    assert lost
    assert lost <= set(map(str, Reason))
    written = "".join(path.read_text() for path in (DOCS.parent / "streamd").rglob("*.py"))
    for metric in set(re.findall(r"streamd_[a-z_]+[a-z]", TEXT)):
        assert metric.removesuffix("_total") in written, metric


def test_keys_are_those_of_the_configuration() -> None:
    schema = json_schema()
    named = set(re.findall(r"`((?:model|runtime|publish|metrics|log|batch)\.[a-z_]+)", TEXT))
    assert named
    for key in named:
        section, name = key.split(".")
        assert name in schema["$defs"][section.capitalize()]["properties"], key


@pytest.mark.parametrize(
    "said",
    [
        "it does not load: ",
        "the model runs on {}, not on {}", "the NVIDIA driver does not start", "decoding on the CPU",
        "is not a key", "is not set", "is in use; stop the other process or choose another port",
        "cannot give {path} to the group", "no head is known for the outputs", "streamd runs detectors",
        "one inference takes {warm_ms:.0f} ms here, more than the budget", "holds credentials", "no message within",
        "needs a restart: ", "hanging: ",
    ],
)  # fmt: skip
def test_messages_are_those_that_streamd_writes(said: str) -> None:
    lead = re.sub(r"\{.*", "", said)
    assert lead.strip() in TEXT or said.split(" {")[0] in TEXT
    written = "".join(path.read_text() for path in (DOCS.parent / "streamd").rglob("*.py"))
    assert said in written


def test_operations_tells_of_every_check() -> None:
    part = (DOCS / "OPERATIONS.md").read_text().partition("## Doctor")[2].partition("\n## ")[0]
    for check in CHECKS:
        word = "provider" if check.name.startswith("provider") else check.name.split(" on ")[0]
        assert word in part or word in ("files", "publish"), check.name
