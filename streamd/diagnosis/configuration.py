"""What a configuration asks of this machine: that it can be read, its model, its credentials and keys."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from streamd.core.errors import StreamdError
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item, State

if TYPE_CHECKING:
    from streamd.service.faults import Fault

NAME = "configuration"
_INSTALLED = "etc/streamd/credentials"


def configuration(case: Case) -> Iterator[Item]:
    """Every fault that `streamd check` would name."""
    if case.path is None:
        return
    from streamd.service.faults import ConfigFaultsError

    try:
        config = case.read().config
    except ConfigFaultsError as error:
        yield from (_item(case, fault) for fault in error.faults)
        return
    except StreamdError as error:
        fix = "# name the configuration with -c"
        yield Item(name=NAME, state="missing", found=str(error), fix=fix, exit_code=error.exit_code)
        return
    running = sum(stream.enabled for stream in config.streams)
    found = f"{case.path}: {running} of {len(config.streams)} streams enabled"
    yield Item(name=NAME, state="ok", found=found)


def files(case: Case) -> Iterator[Item]:
    """The files that it names, and the folder of keys."""
    from streamd.service import inspection

    reading = case.read()
    faults = inspection.absent_files(reading)
    yield from (_item(case, fault) for fault in faults)
    if reading.config.publish.curve is not None:
        keys = inspection.key_faults(reading)
        yield from (_item(case, fault) for fault in keys)
        if not keys:
            keyring = inspection.keyring_of(reading.config)
            listed = 0 if keyring is None else len(keyring.clients)
            found = f"{reading.config.publish.curve}: {listed} clients may read"
            yield Item(name="publish.curve", state="ok", found=found)


def model(case: Case) -> Iterator[Item]:
    """The model itself, and the class names that streams keep."""
    config = case.config
    if config is None or "model.path" in case.found:
        return
    try:
        from streamd.models.catalogue import KnownModel
        from streamd.models.store import store_of
        from streamd.service.configured import describe_configured, rules_of

        store, named = store_of(case.environ), config.model.path
        if isinstance(named, KnownModel) and (flaw := store.flaw(named)) is not None:
            found = f"{named.name} {flaw or 'is not here yet'}: `run` fetches it from {store.address(named)}"
            yield Item(name="model", state="missing", found=found, fix=f"streamd models pull {named.name}")
            return
        described = describe_configured(config.model, store.path)
        for stream in config.streams:
            rules_of(stream, described.labels)
    except ImportError:
        yield Item(name="model", state="unused", found="cannot be looked at without onnxruntime")
    except StreamdError as error:
        fix = f"streamd inspect {quote(str(config.model.path))}\nstreamd check -c {quote(str(case.path))}"
        state: State = "wrong" if error.exit_code == 2 else "missing"
        yield Item(name="model", state=state, found=str(error), fix=fix, exit_code=error.exit_code)
    else:
        found = f"{described.name}: {described.family}, {len(described.labels)} classes"
        yield Item(name="model", state="ok", found=found)


def credentials(case: Case) -> Iterator[Item]:
    """Who may read the files of credentials."""
    given = case.environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(given) if given else case.root / _INSTALLED
    try:
        entries = sorted(folder.iterdir())
        modes = {entry: entry.stat().st_mode for entry in entries}
    except OSError as error:
        if given:
            fix = "# under systemd LoadCredential= makes it; else name a folder that this user may read"
            found = f"$CREDENTIALS_DIRECTORY: {folder}: {error.strerror}"
            yield Item(name="credentials", state="wrong", found=found, fix=fix)
        elif isinstance(error, PermissionError):
            yield Item(
                name="credentials", state="ok", found=f"{folder} is closed to this user, as it should be"
            )
        else:
            yield Item(name="credentials", state="unused", found="$CREDENTIALS_DIRECTORY is not set")
        return
    files = {entry: mode for entry, mode in modes.items() if stat.S_ISREG(mode)}
    # A folder that others may not enter hides what lies in it.
    closed = not folder.stat().st_mode & 0o001
    open_ = [] if closed else [entry for entry, mode in files.items() if mode & 0o004]
    if open_:
        found = f"everybody can read {', '.join(entry.name for entry in open_)} in {folder}"
        fix = f"chmod 600 {' '.join(quote(str(entry)) for entry in open_)}"
        yield Item(name="credentials", state="wrong", found=found, fix=fix)
    else:
        yield Item(name="credentials", state="ok", found=f"{folder}: {len(files)}, closed to others")


def _item(case: Case, fault: Fault) -> Item:
    where = f"line {fault.place.line}: " if fault.place else ""
    return Item(
        name=fault.key or NAME,
        state="missing" if fault.missing else "wrong",
        found=f"{where}{fault.problem}",
        fix=_fix(case, fault),
        exit_code=1 if fault.missing else 2,
    )


def _fix(case: Case, fault: Fault) -> str:
    config = quote(str(case.path))
    if not fault.missing:
        return f"streamd check -c {config}"
    if "${cred:" in fault.problem or "$CREDENTIALS_DIRECTORY" in fault.problem:
        assert case.path is not None
        folder = case.path.parent / "credentials"
        if not case.environ.get("CREDENTIALS_DIRECTORY"):
            return f"CREDENTIALS_DIRECTORY={quote(str(folder))} streamd doctor -c {config}"
        name = fault.problem.partition("${cred:")[2].partition("}")[0]
        target = quote(f"{case.environ['CREDENTIALS_DIRECTORY']}/{name}")
        return f"systemd-ask-password {name} | install -m 600 /dev/stdin {target}"
    if "environment variable" in fault.problem:
        return "# set it where streamd is started (Environment= or EnvironmentFile= of the unit)"
    return f"# put the file there, or change {fault.key}"
