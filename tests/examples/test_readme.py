"""What the examples tell of themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from streamd.service.loading import load
from tests.support import example

README = (example.EXAMPLES / "README.md").read_text()
PROGRAMS = sorted(example.EXAMPLES.glob("*.py"))


def test_every_example_is_listed() -> None:
    linked = set(re.findall(r"\]\(([\w./]+)\)", README))
    present = {path.relative_to(example.EXAMPLES).as_posix() for path in PROGRAMS}
    assert linked >= present | {"offline_run.ipynb", "node/subscriber.mjs"}
    for link in linked:
        assert (example.EXAMPLES / link).exists(), link


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_each_tells_how_it_is_run_and_fits_on_a_few_screens(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text())) or ""
    for words in ("Run:    python " + path.name, "Prints: ", "Needs:  "):
        assert words in told
    assert len(path.read_text().splitlines()) <= 180


def test_the_configuration_to_try_is_one(tmp_path: Path) -> None:
    (tmp_path / "streamd").symlink_to(example.EXAMPLES.parent / "streamd")
    (tmp_path / "try.yaml").write_text(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0])
    config = load(tmp_path / "try.yaml", environ={})
    assert [stream.id for stream in config.streams] == ["gate"]
    assert config.publish.frames == "tcp://127.0.0.1:5561"
