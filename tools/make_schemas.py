"""Writes the JSON Schemas of the messages and of doctor's report, made from their types, into the package.

python tools/make_schemas.py
"""

from __future__ import annotations

import json
from pathlib import Path

from streamd.bus.wire import MESSAGES, schema
from streamd.diagnosis.finding import Report

FOLDER = Path(__file__).parent.parent / "streamd" / "assets" / "schemas"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, message in {**MESSAGES, "doctor": Report}.items():
        (FOLDER / f"{name}.schema.json").write_text(json.dumps(schema(message), indent=2) + "\n")


if __name__ == "__main__":
    main()
