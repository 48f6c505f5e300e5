"""Pages that are made from the code are those that it makes."""

from __future__ import annotations

import re

import pytest

from tools import make_config_page, make_screens


def test_the_page_of_the_configuration_is_made_from_the_types() -> None:
    assert make_config_page.PAGE.read_text() == make_config_page.page(), "python -m tools.make_config_page"


@pytest.mark.long
def test_the_screens_are_those_that_the_script_takes() -> None:
    """What they show differs from run to run; what was typed, and how it ended, does not."""
    mark = re.compile(r"(?m)^(?:\$ .*|## .*|\(exit code .*)$")
    assert mark.findall(make_screens.page()) == mark.findall(make_screens.PAGE.read_text())
