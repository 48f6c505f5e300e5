"""`streamd service`: streamd under systemd."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run streamd under systemd.")


@app.callback()
def service() -> None:
    """Run streamd under systemd."""


@app.command()
def install(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration; with --template the folder of NAME.yaml. [default: /etc/streamd/streamd.yaml]",
        ),
    ] = None,
    user: Annotated[str, typer.Option(metavar="NAME", help="The user it runs as.")] = "streamd",
    unit_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where systemd looks for units.")] = Path(
        "/etc/systemd/system"
    ),
    template: Annotated[
        bool, typer.Option("--template", help="streamd@.service: streamd@NAME runs NAME.yaml.")
    ] = False,
    show: Annotated[bool, typer.Option("--print", help="Print the unit and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a unit that is there.")] = False,
) -> None:
    """Write the systemd unit for this streamd, and say what to do next.

    Example: sudo /opt/streamd/bin/streamd service install
    """
    from streamd.cli import complain
    from streamd.core.errors import StreamdError
    from streamd.service import unit as units

    chosen = (config or (units.CONFIG.parent if template else units.CONFIG)).absolute()
    credentials: tuple[str, ...] = ()
    if template:
        chosen /= "%i.yaml"
    elif chosen.is_file():
        try:
            credentials = units.credentials_of(chosen)
        except StreamdError as error:
            complain(f"warning: {error}")
    unit = units.Unit(units.this_command(), chosen, user, template, credentials)
    if show:
        print(unit.text(), end="")
    else:
        print(f"wrote {units.install(unit, unit_dir, force=force)}")
    for line in unit.obstacles():
        complain(f"warning: {line}")
    if not show:
        start = "streamd@NAME" if template else "streamd"
        print(f"next: systemctl daemon-reload && systemctl enable --now {start}")
