"""Show how far a long job is, on stderr, and only to a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class ProgressCallback(Protocol):
    """Draws how far a job is."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Show ``done`` of ``total``, where that is known, and a note in place of the rate."""


@contextmanager
def bar(what: str, *, unit: str = "", shown: bool = True) -> Iterator[ProgressCallback]:
    """Give a function of (done, of how many) that draws a bar with the rate and the time left.

    Draws nothing unless standard error is a terminal.

    Args:
        what: A word for the job, shown before the bar.
        unit: What is counted, for the rate; without it no rate is shown.
        shown: Whether to draw at all.
    """

    def show(done: int, total: int | None, note: str = "") -> None:
        pass

    if not (shown and sys.stderr.isatty()):
        yield show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), Left(),
    )  # fmt: skip
    # Results go to standard output while the bar is drawn: rich must not take them for its own.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
    ) as drawn:
        task = drawn.add_task(what, total=None, note="")
        begin = time.monotonic()

        def draw(done: int, total: int | None, note: str = "") -> None:
            if unit and not note:
                note = f"{done / max(time.monotonic() - begin, 1e-3):,.0f} {unit}/s"
            drawn.update(task, completed=done, total=total, note=note)

        yield draw


@contextmanager
def rate_bar(what: str, *, total: Callable[[], int | None]) -> Iterator[Callable[[int, int], None]]:
    """Give a callback for (texts, tokens) done, which draws a bar with rates and time left.

    Args:
        what: A word for the job, shown before the bar.
        total: Tells how many texts there are, where that can be known; asked for a bar only.
    """
    if not sys.stderr.isatty():
        yield lambda texts, tokens: None
        return
    with bar(what) as show:
        everything = total()
        begin = time.monotonic()
        done, computed, computed_tokens = 0, 0, 0

        def advance(texts: int, tokens: int) -> None:
            nonlocal done, computed, computed_tokens
            done += texts
            if tokens:  # what was there already says nothing of the speed
                computed += texts
                computed_tokens += tokens
            seconds = max(time.monotonic() - begin, 1e-3)
            rates = f"{computed / seconds:,.0f} strings/s {computed_tokens / seconds:,.0f} tokens/s"
            show(done, everything, rates)

        yield advance


class Tasks(Protocol):
    """Shows which of several tasks is being done."""

    def begin(self, task: str) -> None:
        """Show that the next task begins."""

    def encoded(self, done: int, total: int | None, note: str = "") -> None:
        """Show how many strings were encoded."""


@contextmanager
def tasks(what: str, total: int) -> Iterator[Tasks]:
    """Give what draws a bar of tasks, with the present one, the strings a second, the time left.

    Args:
        what: A word for the job, shown before the bar.
        total: How many tasks there are.
    """
    with bar(what) as show:

        class Drawn:
            def __init__(self) -> None:
                self.begun, self.task, self.strings = 0, "", 0
                self.start = time.monotonic()

            def begin(self, task: str) -> None:
                self.begun, self.task = self.begun + 1, task
                self._draw()

            def encoded(self, done: int, total: int | None, note: str = "") -> None:
                self.strings = done
                self._draw()

            def _draw(self) -> None:
                rate = self.strings / max(time.monotonic() - self.start, 1e-3)
                show(max(self.begun - 1, 0), total, f"{self.task}  {rate:,.0f} strings/s")

        yield Drawn()
