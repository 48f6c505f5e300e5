"""Writes docs/CONFIG.md: every key of the configuration, made from the types.

python -m tools.make_config_page
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamd.service import explanation
from streamd.service.schema import json_schema

PAGE = Path(__file__).parent.parent / "docs" / "CONFIG.md"
_HEAD = """# Configuration

Every key, what it may hold, and what it is when left out. Made from the types by `python -m tools.make_config_page`;
the same with explanations, as a file to start from: [config/streamd.yaml](../config/streamd.yaml).

`streamd check -c FILE` names every fault of a file with its line, then shows the effective values and what would run;
`streamd check --schema` prints a JSON Schema, with which editors complete and check keys:

```yaml
# yaml-language-server: $schema=streamd.schema.json
```

- YAML 1.2: `true`, `false`, `null` and decimal numbers; all else is text. A key that stands twice is refused.
- Paths are relative to the folder of the file.
- A whole value may be `${cred:NAME}` (a systemd credential) or `${env:NAME}`; passwords stand nowhere else.
- A stream's key outweighs `defaults`, which outweigh `model`.
- SIGHUP applies `streams`, `defaults`, `model`, `batch`, `log` and the list of client keys; a change in the others
  needs a restart, and refuses the whole reload.
"""


def page() -> str:
    """The text of the page."""
    schema = json_schema()
    sections = []
    for name, place in schema["properties"].items():
        if name == "streams":
            sections.append(_streams(schema))
            continue
        definition = _definition(schema, place)
        sections.append(f"## {name}\n\n{definition['description']}\n\n" + _table((name,), definition))
        if name == "model":
            contract = schema["$defs"]["Input"]
            sections.append(
                "### model.input, written out\n\n"
                + contract["description"].replace("\n\n", "\n")
                + "\n\n"
                + _table(("model", "input"), contract)
            )
        if name == "defaults":
            sections.append("### tls\n\n" + _table(("defaults", "tls"), schema["$defs"]["Tls"]))
    return "\n".join([_HEAD, *sections])


def _streams(schema: dict[str, Any]) -> str:
    entry = schema["$defs"]["StreamEntry"]
    own = {name: key for name, key in entry["properties"].items() if name in ("url", "username", "password")}
    pattern = schema["properties"]["streams"]["propertyNames"]["pattern"].strip("^$")
    return (
        f"## streams\n\nAt least one, by its id (`{pattern}`), which becomes its topic. Beside these, every key of "
        "`defaults`.\n\n" + _table(("streams", "gate"), {**entry, "properties": own})
    )


def _definition(schema: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][place["$ref"].rpartition("/")[2]]
    return found


def _table(section: tuple[str, ...], definition: dict[str, Any]) -> str:
    return "\n".join(["| key | default | may be | |", "|---|---|---|---|", *_rows(section, definition), ""])


def _rows(section: tuple[str, ...], definition: dict[str, Any]) -> Iterator[str]:
    for name, key in definition["properties"].items():
        default = f"`{json.dumps(_written(key['default']))}`" if "default" in key else "**required**"
        may_be = explanation.allowed(*section, name)
        cells = (f"`{name}`", default, may_be, key.get("description", ""))
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _written(default: object) -> object:
    """As the file would say it: a floor for all classes is a number there."""
    match default:
        case {"default": number, "classes": {}}:
            return number
    return default


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
