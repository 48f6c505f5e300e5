"""`streamd check`: every fault of a configuration, else what it comes to and what would run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The configuration file.", show_default=True)
    ] = Path("streamd.yaml"),
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the file and end.")
    ] = False,
) -> None:
    """Check a configuration and show what would run.

    Prints every fault with file, line, key and what is allowed. Ends with 2 when the file must be changed,
    with 1 when only a file or a credential that it names is missing. Fetches nothing: of a known model that is not
    here it says where `run` takes it from.

    Example: streamd check -c streamd.yaml
    """
    import json

    from streamd.core.errors import StreamdError
    from streamd.service import document, inspection
    from streamd.service.configured import known_names, labels_configured, rules_of
    from streamd.service.faults import ConfigFaultsError
    from streamd.service.loading import read

    if schema:
        from streamd.service.schema import json_schema

        print(json.dumps(json_schema(), indent=2))
        return
    try:
        reading = read(config, tables=known_names())
        if faults := inspection.absent_files(reading) + inspection.key_faults(reading):
            raise ConfigFaultsError(faults)
        # The class names that streams keep, and the labels, can only be checked against the model itself.
        labels = labels_configured(reading.config.model)
        if labels is not None:
            for stream in reading.config.streams:
                rules_of(stream, labels)
    except StreamdError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    print(document.write(reading.config.effective()), end="")
    for line in inspection.summary(reading.config):
        print(f"# {line}")
