"""The ``mirror-rt`` program: the list of commands, and the handling of errors.

No file of a command imports heavy modules at its top; a command imports them in its body. So
``mirror-rt --help`` is fast.
"""

from __future__ import annotations

import atexit
import errno
import io
import math
import os
import signal
import sys
import time
from typing import Annotated, Any, NoReturn

INTERRUPTED = "interrupted; no half-written output was left"
SAME_REQUEST_S = 3.0
"""Seconds in which a second Ctrl-C or SIGTERM adds nothing to the first."""

try:
    import typer
    from typer.core import TyperGroup

    from mirror_rt.errors import MirrorError, one_line
    from mirror_rt.version import VERSION

    from . import (
        calibrate,
        corpus,
        distil,
        embed,
        evaluate,
        export,
        feedback,
        help,
        index,
        info,
        kb,
        link,
        map,
        push,
        quickstart,
        reproduce,
        search,
        serve,
        train,
    )
except KeyboardInterrupt:  # during the start
    sys.stderr.write(f"mirror-rt: {INTERRUPTED}\n")
    sys.exit(130)


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C: clean up, then end."""


class Program(TyperGroup):
    """The group of all commands; it prints an error on one line and exits with its status.

    Status 0 is success, 1 an error, 2 wrong usage, 130 an interrupt (128 + SIGINT),
    143 a request to end (128 + SIGTERM).
    """

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (the signature of the overridden method)
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            message = "; ".join([INTERRUPTED, *notes_of(error)])
            fail(message, status=143 if isinstance(error, Terminated) else 130)
        except BrokenPipeError:
            # The reader of the output has closed the pipe (mirror-rt … | head): not an error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except (MirrorError, MemoryError, OSError) as error:
            if debugging():
                raise
            fail("; ".join([explain(error), *notes_of(error)]))
        except Exception as error:
            # Typer's own errors (usage, exit) pass through; all others are unexpected.
            # Older versions of typer import click, newer ones include it.
            if debugging() or type(error).__module__.partition(".")[0] in {"typer", "click"}:
                raise
            fail(
                f"internal error, {type(error).__name__}: {error}; "
                "set MIRROR_RT_DEBUG=1 to see where, and please report it"
            )


def debugging() -> bool:
    """Return whether the user wants tracebacks."""
    return os.environ.get("MIRROR_RT_DEBUG") == "1"


def notes_of(error: BaseException) -> list[str]:
    """Return the notes that were added to an error."""
    return [*getattr(error, "__notes__", ())]


def explain(error: MirrorError | MemoryError | OSError) -> str:
    """Return an expected error as one sentence."""
    match error:
        case MirrorError():
            return str(error)
        case MemoryError():
            return "out of memory; give a smaller batch, fewer threads or a smaller input"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"{error.filename or 'output'}: the disk is full; free some space and run again"
        case OSError(errno=errno.EBADF):
            return "standard input or output: is closed"
        case OSError():
            return f"{error.filename or 'input or output'}: {error.strerror or error}"


def fail(message: str, *, status: int = 1) -> NoReturn:
    """Print ``message`` on one line of stderr and exit."""
    try:
        sys.stdout.flush()
    except OSError:  # do not try to write the same output again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    typer.echo(f"mirror-rt: {one_line(message)}", err=True)
    sys.exit(status)


app = typer.Typer(
    name="mirror-rt",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn any masked language model into an encoder of names without labels, "
    "export it to quantized ONNX, and link millions of names on a plain CPU.",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mirror-rt {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Define the options before a command."""


# In the order of the work; --help has the same order.
help.add(app, "quickstart", quickstart.quickstart)
app.add_typer(corpus.corpus, name="corpus")
help.add(app, "train", train.train)
help.add(app, "export", export.export)
help.add(app, "distil", distil.distil)
help.add(app, "embed", embed.embed)
help.add(app, "index", index.index)
app.add_typer(kb.app, name="kb")
help.add(app, "link", link.link)
help.add(app, "search", search.search)
help.add(app, "map", map.map_vocabularies)
help.add(app, "serve", serve.serve)
help.add(app, "calibrate", calibrate.calibrate)
help.add(app, "feedback", feedback.feedback)
help.add(app, "evaluate", evaluate.evaluate)
help.add(app, "reproduce", reproduce.reproduce)
help.add(app, "info", info.info)
help.add(app, "push", push.push)


def main() -> None:
    """Run the program."""
    last = -math.inf

    def stop(number: int, frame: object) -> None:
        # Another Ctrl-C soon after is the same request: it would break the cleaning up. A later
        # one counts again, so that no program that is stuck has to be killed.
        nonlocal last
        now = time.monotonic()
        if now - last >= SAME_REQUEST_S:
            last = now
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    _open_streams()
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
            signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        try:
            app()
        finally:
            # The program is ending: ignore a second Ctrl-C.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        fail(INTERRUPTED, status=143 if isinstance(error, Terminated) else 130)
    except SystemExit as end:
        if end.code not in (130, 143):
            raise
        # Threads of libraries may still compute: unloading the libraries below them would abort.
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(end.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        # Drop output that could not be written, so that exit does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(explain(error))


def _open_streams() -> None:
    """Open all three standard streams in UTF-8, whatever the locale."""
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        # Arguments and file names are decoded at the start, so restart the program.
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next opened file would get its number
            os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
