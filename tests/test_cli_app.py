"""The frame of the program: help, exit codes, errors on one line."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner, Result

from mirror_rt.errors import InputError
from mirror_rt_cli import app as program

HEAVY = (
    "accelerate", "faiss", "numpy", "onnx", "onnxruntime", "optimum", "pyarrow",
    "rich", "tokenizers", "torch", "transformers",
)  # fmt: skip


def run_failing(error: BaseException) -> Result:
    """Run the program with a command that raises ``error``."""
    failing = typer.Typer(cls=program.Program, pretty_exceptions_enable=False)

    @failing.callback()
    def root() -> None:
        """Make the app a group."""

    @failing.command()
    def work() -> None:
        raise error

    return CliRunner().invoke(failing, ["work"])


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (InputError("names.txt: line 3\nis bad"), 1, "mirror-rt: names.txt: line 3 is bad\n"),
        (InputError("a: '\x1b[31m\a\x9bcœur'"), 1, r"mirror-rt: a: '\x1b[31m\x07\x9bcœur'"),
        (OSError(errno.EIO, "bad", "\x1b]0;x\a"), 1, r"mirror-rt: \x1b]0;x\x07: bad"),
        (KeyboardInterrupt(), 130, "mirror-rt: interrupted; no half-written output was left\n"),
        (OSError(errno.ENOSPC, "No space", "o.npy"), 1, "mirror-rt: o.npy: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "mirror-rt: x: Permission"),
        (MemoryError(), 1, "mirror-rt: out of memory"),
        (ZeroDivisionError("oh\nno"), 1, "mirror-rt: internal error, ZeroDivisionError: oh no;"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIRROR_RT_DEBUG", raising=False)
    done = run_failing(error)
    assert done.exit_code == status
    assert done.stderr.startswith(shown)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("error", [InputError("bad"), ZeroDivisionError("oh")])
def test_debug_gives_the_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_RT_DEBUG", "1")
    assert run_failing(error).exception is error


def test_an_interrupt_while_starting_is_one_line() -> None:
    code = """
import sys
class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == "mirror_rt_cli.train":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
from mirror_rt_cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "mirror-rt: interrupted; no half-written output was left\n"


@pytest.mark.parametrize("module", ["typer.exceptions", "click.exceptions"])
def test_the_errors_of_either_typer_are_left_to_it(module: str) -> None:
    error = type("Theirs", (Exception,), {"__module__": module})("of the library's own")
    assert run_failing(error).exception is error


def test_asking_for_an_exit_is_not_an_error() -> None:
    done = run_failing(typer.Exit(code=3))
    assert (done.exit_code, done.output) == (3, "")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from mirror_rt_cli.app import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_help_and_version_answer() -> None:
    assert "Options" in run("--help").stdout
    assert run("--version").stdout.startswith("mirror-rt ")


def test_wrong_usage_is_status_two_without_a_traceback() -> None:
    done = run("no-such-command")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


OF_RESULTS = (
    "Candidate, Entity, IndexKind, LinkResult, MatchType, Name, NameKind, NilReason, Passage, "
    "SearchResult"
)


@pytest.mark.parametrize(
    "start", ["import mirror_rt", "import mirror_rt_cli.app", f"from mirror_rt import {OF_RESULTS}"]
)
def test_importing_loads_no_large_library(start: str) -> None:
    code = f"{start}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
