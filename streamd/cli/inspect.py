"""`streamd inspect`: what a model file is."""

from __future__ import annotations

from typing import Annotated

import typer

from streamd.cli import options


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An ONNX file, or the name of a known model.")
    ],
    head: options.HeadName = "auto",
    input_: options.InputName = "auto",
    size: options.Size = None,
) -> None:
    """Show a model's inputs, outputs, head and labels, and how pictures are prepared for it.

    Example: streamd inspect yolox-nano
    """
    from streamd.cli.pulling import model_file
    from streamd.models.description import describe

    found = describe(model_file(model), head=head, input=input_, size=options.parse_size(size))
    rows: list[tuple[str, str]] = [("model", found.name)]
    for kind, tensors in (("input", found.graph.inputs), ("output", found.graph.outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if side is None else str(side) for side in tensor.shape)
            rows.append((kind, f"{tensor.name}  {tensor.dtype} [{shape}]"))
    contract = found.contract
    rows += [
        ("size", f"{found.graph.input.width}x{found.graph.input.height} (width x height)"),
        ("batch", "any" if found.graph.input.batch is None else str(found.graph.input.batch)),
        ("head", f"{found.family} ({found.head_reason})"),
        ("classes", f"{len(found.labels)} ({found.labels_reason}): {_shortened(found.labels)}"),
        (
            "pictures",
            f"{contract.order} * {contract.scale:.6g}, mean {_triple(contract.mean)}, std {_triple(contract.std)}",
        ),
        ("", f"{contract.fit}, filled with {contract.fill}" if contract.fit != "stretch" else "stretch"),
        ("", f"{'known' if found.input_known else 'A GUESS'}: {found.input_reason}"),
    ]
    for name, text in rows:
        print(f"{name:<9} {text}")


def _shortened(labels: tuple[str, ...], most: int = 8) -> str:
    rest = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {rest} more" if rest > 0 else "")


def _triple(values: tuple[float, float, float]) -> str:
    first = values[0]
    return (
        f"{first:g}"
        if all(value == first for value in values)
        else ", ".join(f"{value:g}" for value in values)
    )
