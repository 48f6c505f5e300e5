"""`streamd models`: the models that are known by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from streamd.cli.stopping import Stop

if TYPE_CHECKING:
    from streamd.models.catalogue import KnownModel
    from streamd.models.store import ModelStore

app = typer.Typer(
    help="List, fetch and find the models that are known by name.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """Show every known model, and whether it is here already.

    Example: streamd models list
    """
    from streamd.models.catalogue import catalogue

    store = _store()
    known = catalogue().values()
    if json:
        _print_json([_row(model, store) for model in known])
        return
    from rich.table import Table

    from streamd.cli.console import console

    table = Table(box=None, pad_edge=False)
    for column in ("name", "what it finds", "input", "licence"):
        table.add_column(column, overflow="fold")
    table.add_column("MB", justify="right")
    table.add_column("here")
    for model in known:
        height, width = model.input_size
        here = "yes" if store.flaw(model) is None else "no"
        size = f"{model.bytes / 1e6:.1f}"
        table.add_row(model.name, model.task, f"{width}x{height}", model.licence, size, here)
    console().print(table)


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of known models.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="A folder of your own that holds NAME.onnx; else STREAMD_MODELS_URL.",
        ),
    ] = None,
) -> None:
    """Fetch models ahead of time, and print where they are.

    What is here already is checked and not fetched again; what broke off goes on where it ended.

    Example: streamd models pull yolox-nano
    """
    with Stop():
        from streamd.cli.pulling import pulled
        from streamd.models.store import checked_mirror

        store = _store() if from_ is None else replace(_store(), mirror=checked_mirror(from_, "--from"))
        # All of them before the first is fetched: a wrong name is told of at once.
        for model in [_known(name) for name in names]:
            print(pulled(model, store), flush=True)


@app.command()
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a known model.")],
    json: Json = False,
) -> None:
    """Print where a model is; ends with 1 and says what to do when it is not here.

    Example: streamd models path yolox-nano
    """
    from streamd.core.errors import FetchError

    model, store = _known(name), _store()
    flaw = store.flaw(model)
    if json:
        _print_json(_row(model, store))
    elif flaw is None:
        print(store.path(model))
    if flaw is not None:
        what = f"{store.path(model)} {flaw}" if flaw else f"{name} is not here"
        raise FetchError(f"{what}; run `streamd models pull {name}`, or {store.advice(model)}")


def _store() -> ModelStore:
    import os

    from streamd.models.store import store_of

    return store_of(os.environ)  # the environment alone says where caches belong


def _known(name: str) -> KnownModel:
    from streamd.core.errors import UsageError
    from streamd.core.nearest import nearest
    from streamd.core.text import printable
    from streamd.models.catalogue import catalogue

    if name not in catalogue():
        known = ", ".join(catalogue())
        raise UsageError(f"{printable(name)}: no known model{nearest(name, catalogue())}; known are {known}")
    return catalogue()[name]


def _row(model: KnownModel, store: ModelStore) -> dict[str, object]:
    return {
        "name": model.name,
        "task": model.task,
        "head": model.head,
        "input": model.input,
        "input_size": model.input_size,
        "licence": model.licence,
        "bytes": model.bytes,
        "sha256": model.sha256,
        "address": store.address(model),
        "path": str(store.path(model)),
        "here": store.flaw(model) is None,
        "proven": model.proven,
    }


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
