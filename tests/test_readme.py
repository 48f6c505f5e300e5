"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from streamd.service.loading import load
from tests.support.command import run_inline

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_plain_subscriber_has_six_lines() -> None:
    assert len(blocks("python")[1].strip().splitlines()) <= 7  # one of them empty


def test_the_configuration_is_one(tmp_path: Path) -> None:
    (tmp_path / "streamd.yaml").write_text(blocks("yaml")[0])
    config = load(tmp_path / "streamd.yaml", environ={"GATE_PASSWORD": "x"})
    assert [stream.id for stream in config.streams] == list(yaml.safe_load(blocks("yaml")[0])["streams"])


def test_every_verb_it_names_is_there() -> None:
    verbs = set(
        re.findall(r"streamd (demo|detect|run|check|inspect|probe|tail|[a-z]+) ", " ".join(blocks("sh")))
    )
    shown = run_inline("--help").stdout
    assert verbs
    for verb in verbs:
        assert f"\n  {verb} " in shown, verb
