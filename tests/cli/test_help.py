"""Every verb's help shows an example, whose verb and options there are."""

from __future__ import annotations

import re

import pytest

from tests.support.command import run_inline


def _verbs(*group: str) -> list[str]:
    shown = run_inline(*group, "--help").stdout
    return re.findall(r"(?m)^  ([a-z]+) ", shown.partition("Commands:")[2])


VERBS = [(name, *inner) for name in _verbs() for inner in ([(one,) for one in _verbs(name)] or [()])]


def test_the_verbs_were_found() -> None:
    assert {("detect",), ("service", "install"), ("models", "pull")} <= set(VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_each_help_has_an_example_that_could_be_typed(verb: tuple[str, ...]) -> None:
    shown = " ".join(run_inline(*verb, "--help").stdout.split())
    examples = re.search(rf"Examples?: (.*?streamd {' '.join(verb)}\b.*?)(?=Arguments:|Options:)", shown)
    assert examples, shown
    known = set(re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][a-z0-9-]*", shown.partition("Options:")[2]))
    assert set(re.findall(r"(?<= )-{1,2}[a-zA-Z][a-z0-9-]*", examples[1])) <= known
