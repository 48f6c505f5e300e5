"""What a mistyped name may have meant."""

from __future__ import annotations

import pytest

from streamd.core.nearest import nearest

KNOWN = ("person", "bicycle", "Traffic Light")


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("persn", ", did you mean 'person'?"),
        ("PERSON", ", did you mean 'person'?"),
        ("traffic lights", ", did you mean 'Traffic Light'?"),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_nearest(name: str, end: str) -> None:
    assert nearest(name, KNOWN) == end
