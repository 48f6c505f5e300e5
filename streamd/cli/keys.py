"""`streamd keys`: the keys of an encrypted bus. No secret is ever printed."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import Annotated, TypeAlias

import typer

app = typer.Typer(
    help="Make and list the keys of an encrypted bus (publish.curve).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Folder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The daemon's folder of keys: publish.curve.")
]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace keys that are there.")]


@app.command()
def server(folder: Folder, force: Force = False) -> None:
    """Make the daemon's keys and an empty list of clients.

    Example: streamd keys server /etc/streamd/keys
    """
    from streamd.bus.keymaking import make_server

    if make_server(folder, force=force):
        print(f"made {folder}/server.key_secret (mode 0600; it never leaves this machine)")
    print(f"made {folder}/server.key (every client gets a copy)")
    print("next:")
    if os.geteuid() == 0:
        print(f"  chown -R USER {quote(str(folder))}    where the daemon runs as USER and not as root")
    print(f"  streamd keys client NAME {quote(str(folder))}    once for each client")
    print(f"  publish: {{curve: {folder.absolute()}}}    in the daemon's configuration, then restart it")


@app.command()
def client(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the client is called.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="The daemon's folder of keys; without it nothing is listed."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the client's own keys go.")] = Path(),
    public: Annotated[
        str | None,
        typer.Option(
            "--public",
            metavar="KEY",
            help="List a client that has its keys: its .key file, or 40 characters.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Make a client's keys and put the client on the daemon's list.

    Examples: streamd keys client alice /etc/streamd/keys --to /tmp;
    on the client's own machine, so that the secret never travels: streamd keys client alice;
    then on the daemon's: streamd keys client alice /etc/streamd/keys --public alice.key
    """
    from streamd.bus.keymaking import list_client, make_client
    from streamd.core.errors import UsageError

    if public is not None:
        if folder is None:
            raise UsageError("--public: onto which list? Name the daemon's folder of keys as well")
        listed = list_client(name, public, folder, force=force)
        print(f"listed {name} in {listed}")
    else:
        secret, listed = make_client(name, folder, to, force=force)
        print(f"made {secret} (mode 0600; for {name} alone)")
        if folder is None:
            print(f"made {listed} (for the daemon's list)")
            print("next, on the daemon's machine:")
            print(f"  streamd keys client {name} FOLDER --public {name}.key")
            print(f"and with a copy of its server.key beside {secret.name}:")
        else:
            print(f"listed {name} in {listed}")
            print("next, to the client's machine over a secure way:")
            print(f"  scp {quote(str(secret))} {quote(str(folder / 'server.key'))} HOST:")
            print("and there:")
        print(f"  streamd tail tcp://DAEMON:5560 --keys {secret.name} --server-key server.key")
    if folder is not None:
        print("a running daemon reads its list when it is told to reload (SIGHUP), or restarted")


@app.command("list")
def list_(folder: Folder) -> None:
    """Check a daemon's folder of keys and show who may read.

    Ends with 2 when a file must be changed, with 1 when one is missing or open to others.

    Example: streamd keys list /etc/streamd/keys
    """
    from streamd.bus.keys import read_keyring

    keyring = read_keyring(folder)
    print(f"server    {keyring.server.public}")
    for key, name in sorted(keyring.clients.items(), key=lambda item: item[1]):
        print(f"{name:<9} {key}")
    for note in keyring.notes:
        typer.echo(f"note: {note}", err=True)
