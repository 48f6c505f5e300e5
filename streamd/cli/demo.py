"""`streamd demo`: the whole path on a clip and a model that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamd.cli.stopping import Stop


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where demo.jsonl and demo.mp4 are written."),
    ] = Path(),
) -> None:
    """Detect people and vehicles in a drawn street scene; needs no network, GPU or configuration.

    Writes demo.jsonl (every frame's objects) and demo.mp4 (with boxes). The model was trained on such drawings
    and knows nothing of real streets.

    Example: streamd demo
    """
    with Stop() as stop:
        from importlib.resources import as_file, files

        from streamd.cli.detect import Outputs
        from streamd.cli.offline import Job, execute
        from streamd.models.description import describe
        from streamd.models.selection import rules_for
        from streamd.service.offline import Span
        from streamd.sources import SourceRequest

        assets = files("streamd") / "assets"
        with as_file(assets / "demo.onnx") as model, as_file(assets / "demo.mp4") as clip:
            description = describe(model)
            job = Job(
                description=description,
                rules=rules_for(description.labels, confidence=0.4, iou=0.5),
                requests=[SourceRequest(url=str(clip))],
                span=Span(),
                # The names are its own: a second run replaces what the first one wrote.
                outputs=Outputs(str(output / "demo.jsonl"), None, str(output / "demo.mp4"), False, True),
                providers=("tensorrt", "cuda", "cpu"),
                fallback=True,
                table=True,
                source_name="demo.mp4",
            )
            code = execute(job, stop)
    if code == 0:
        print(
            f"Written: {output / 'demo.jsonl'} (objects of every frame), {output / 'demo.mp4'} (with boxes)"
        )
        print("Next: streamd detect YOUR_CLIP.mp4 -m YOUR_MODEL.onnx")
    raise typer.Exit(code)
