"""Writes detectors of known size with random weights, for benchmarks: see tools/README.md.

python -m tools.make_graphs FOLDER [--size 640] [--dynamic] [--planted 20] [--copies 8] [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx

from tools.graphs.cost import cost_of
from tools.graphs.detectors import Form, yolov8n, yolov10n
from tools.graphs.noop import noop
from tools.graphs.planted import Planted

MAKERS = {"v8n": yolov8n, "v10n": yolov10n}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, write the models, print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the models are written; it is made")
    parser.add_argument("--size", type=_size, default=(640, 640), metavar="N|HxW", help="multiples of 32")
    parser.add_argument("--dynamic", action="store_true", help="any number of pictures a run, else one")
    parser.add_argument("--planted", type=int, default=0, help="objects that every picture has")
    parser.add_argument("--copies", type=int, default=1, help="rows of the raw head for each of them")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    chosen = parser.parse_args(arguments)
    height, width = chosen.size
    planted = Planted(chosen.planted, chosen.copies)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    try:
        # Several rows an object are for heads that leave suppression to others.
        once = Planted(chosen.planted)
        forms = {
            name: Form(height, width, chosen.dynamic, chosen.seed, planted if name == "v8n" else once)
            for name in MAKERS
        }
        models = {f"{name}_{height}x{width}": MAKERS[name](form) for name, form in forms.items()}
        models["noop_64x64"] = noop(once)
    except ValueError as error:
        parser.error(str(error))
    for name, model in models.items():
        path = chosen.folder / f"{name}.onnx"
        onnx.save(model, path)
        cost = cost_of(model)
        print(f"{path}  {cost.parameters / 1e6:.2f} M parameters, {cost.gflops:.2f} GFLOPs")


def _size(text: str) -> tuple[int, int]:
    sides = [int(part) for part in text.lower().split("x")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0], sides[-1]


if __name__ == "__main__":
    main()
