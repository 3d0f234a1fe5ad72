"""The ``mirror-rt`` program: its list of commands, and what becomes of an error.

Nothing heavy is imported here or at the top of a command's file; a command imports its stage
inside its body, so that ``mirror-rt --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from mirror_rt.errors import MirrorError
from mirror_rt.version import VERSION

app = typer.Typer(
    name="mirror-rt",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn any masked language model into an encoder of names without labels, "
    "export it to quantised ONNX, and link millions of names on a plain CPU.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mirror-rt {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def main() -> None:
    """Run the program: 0 for success, 1 for an error told in one line, 2 for wrong usage."""
    debug = os.environ.get("MIRROR_RT_DEBUG") == "1"
    try:
        app()
    except KeyboardInterrupt:
        _fail("interrupted; nothing half-written was left", status=130)
    except BrokenPipeError:
        # The reader of our output went away (mirror-rt … | head): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MirrorError as error:
        if debug:
            raise
        _fail(str(error))
    except MemoryError:
        if debug:
            raise
        _fail("out of memory; give a smaller batch, fewer threads or a smaller input")
    except OSError as error:
        if debug:
            raise
        if error.errno == errno.ENOSPC:
            _fail(f"{error.filename or 'output'}: the disk is full; free some space and run again")
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except Exception as error:
        if debug:
            raise
        words = " ".join(str(error).split())
        _fail(
            f"internal error, {type(error).__name__}: {words}; "
            "set MIRROR_RT_DEBUG=1 to see where, and please report it"
        )


def _fail(message: str, *, status: int = 1) -> None:
    typer.echo(f"mirror-rt: {' '.join(message.split())}", err=True)
    sys.exit(status)
