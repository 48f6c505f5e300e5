"""Prints the lowest version of every direct dependency that pyproject.toml allows, as constraints for pip.

    python -m tools.lowest > lowest.txt
    pip install --constraint lowest.txt -e ".[dev]"

The bounds are promises: `.ci/lowest` runs the fast tests with what this prints.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

_PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """`name==version` of each; with its marker, where it has one. Raises ValueError for one without a lower bound."""
    found = []
    for text in requirements:
        requirement = Requirement(text)
        bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"{text}: wants one lower bound (>=)")
        marker = f"; {requirement.marker}" if requirement.marker else ""
        found.append(f"{requirement.name}=={bounds[0]}{marker}")
    return found


def main() -> None:
    """Print them."""
    project = tomllib.loads(_PROJECT.read_text())["project"]
    print("\n".join(lowest(project["dependencies"])))


if __name__ == "__main__":
    main()
