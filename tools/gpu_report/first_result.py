"""A process of its own: from nothing to the first result. Prints one line, then ends.

python -m tools.gpu_report.first_result MODEL PROVIDER CACHE
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamd.models.chain import open_session
from streamd.models.description import describe
from streamd.models.detector import Detector
from streamd.models.session import Provider, RuntimeOptions


def main(model: Path, provider: Provider, cache: Path) -> None:
    """Opens the model on that provider alone, as the daemon does, and runs a picture."""
    description = describe(model)
    options = RuntimeOptions((provider,), False, "fp16", 0, cache, 1)
    with open_session(model, description.graph, options, contract=description.contract) as session:
        Detector(description, session, 1).try_out()
        print("first result", flush=True)


if __name__ == "__main__":
    name = next(known for known in ("tensorrt", "cuda", "cpu") if known == sys.argv[2])
    main(Path(sys.argv[1]), name, Path(sys.argv[3]))  # type: ignore[arg-type]
