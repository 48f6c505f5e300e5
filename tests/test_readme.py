"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamd.service.loading import load
from tests.support.clips import Clip, make
from tests.support.command import run_inline
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(2))
def test_each_subscriber_prints_objects(tmp_path: Path, index: int) -> None:
    code = blocks("python")[index]
    clip = make(tmp_path / "a.mp4", Clip(frames=50, first=1))
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"gate": {"url": str(clip), "loop": True}})
    with RunningDaemon(config) as daemon:
        told = code.replace("tcp://127.0.0.1:5560", daemon.endpoint)
        assert told != code
        with subprocess.Popen(
            [sys.executable, "-u", "-c", told], stdout=subprocess.PIPE, text=True
        ) as subscriber:
            assert subscriber.stdout is not None
            lines = [subscriber.stdout.readline() for _ in range(3)]
            subscriber.kill()
        assert all("bit" in line for line in lines), lines
        assert daemon.stop() == 0


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
