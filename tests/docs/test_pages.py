"""Pages that are made from the code are those that it makes."""

from __future__ import annotations

from tools import make_config_page


def test_the_page_of_the_configuration_is_made_from_the_types() -> None:
    assert make_config_page.PAGE.read_text() == make_config_page.page(), "python -m tools.make_config_page"
