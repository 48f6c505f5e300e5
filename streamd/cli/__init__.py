"""The command line: one file per verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from streamd.cli import (
    bench,
    build,
    check,
    demo,
    detect,
    doctor,
    inspect,
    keys,
    models,
    probe,
    record,
    replay,
    run,
    service,
    tail,
    top,
    view,
)
from streamd.core.errors import StreamdError
from streamd.core.files import FULL

# Plain help: typer's rich help would triple the time of `streamd --help`.
app = typer.Typer(
    name="streamd",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
_VERBS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "detect": detect.detect,
    "run": run.run,
    "build": build.build,
    "check": check.check,
    "inspect": inspect.inspect,
    "probe": probe.probe,
    "tail": tail.tail,
    "top": top.top,
    "view": view.view,
    "record": record.record,
    "replay": replay.replay,
    "bench": bench.bench,
    "doctor": doctor.doctor,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)
app.add_typer(service.app, name="service")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
# The base of typer's own refusals; newer typers bring it along, older ones take it from click.
_CLICK_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _version(wanted: bool) -> None:
    if wanted:
        from streamd.cli.version import lines

        for line in lines():
            print(line)
        raise typer.Exit


@app.callback()
def streamd(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the versions and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks and libraries' own messages."),
) -> None:
    """Real-time object detection on cameras and video files, published over ZeroMQ.

    Start with `streamd demo`, then `streamd detect CLIP.mp4 -m yolox-nano`.
    """


def main() -> None:
    """Run a command and exit with its code; expected failures are one line on stderr."""
    _open_closed_descriptors()
    # --debug may stand anywhere: whoever needs it has the failing command line at hand already.
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        code = app([word for word in arguments if word != "--debug"], standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a failure can still be told
    except typer.Abort:
        code = 130
    except StreamdError as error:
        if debug:
            raise
        complain(str(error))
        code = error.exit_code
    except _CLICK_ERROR as error:
        error.show()
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # `streamd tail | head` is no failure; the interpreter must not try to flush again.
        _drop_stdout()
        code = 0
    except SystemExit as end:
        # Where click has met it first, it ended with 1.
        code = 0 if isinstance(end.__context__, BrokenPipeError) else end.code
    except OSError as error:
        if debug or error.errno not in FULL:
            raise
        _drop_stdout()
        complain(f"stdout cannot be written any more: {error.strerror}; make room, or send it elsewhere")
        code = 1
    sys.exit(code or 0)


def _open_closed_descriptors() -> None:
    """Started with stderr closed (2>&-), the first socket would become number 2: libraries would write into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    # That stdout is None is kept: results asked for there cannot be had, and are told of.
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - open as long as the process


def _drop_stdout() -> None:
    """What is still to be printed has nowhere to go; without this the interpreter's own flush would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """Print a failure to stderr, each of its lines led by the program's name."""
    # The exit code still says it when stderr cannot.
    with contextlib.suppress(OSError):
        for line in message.splitlines() or [""]:
            print(f"streamd: {line}", file=sys.stderr)
