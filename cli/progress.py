"""Show the progress of a long job on stderr, if it is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class ProgressCallback(Protocol):
    """Draws the progress of a job."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Show ``done`` of ``total`` (if known), and a note instead of the rate."""


@contextmanager
def bar(what: str, *, unit: str = "", shown: bool = True) -> Iterator[ProgressCallback]:
    """Provide a function of (done, total) that draws a bar with the rate and the remaining time.

    It draws nothing unless standard error is a terminal.

    Args:
        what: A word for the job, shown before the bar.
        unit: The unit of the rate; without it no rate is shown.
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
    # Results go to standard output while the bar is drawn; rich must not capture them.
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
    """Provide a callback for (texts, tokens) done that draws a bar with rates and remaining time.

    Args:
        what: A word for the job, shown before the bar.
        total: Returns the number of texts, if it is known; called only if a bar is drawn.
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
            if tokens:  # reused results do not count for the speed
                computed += texts
                computed_tokens += tokens
            seconds = max(time.monotonic() - begin, 1e-3)
            rates = f"{computed / seconds:,.0f} strings/s {computed_tokens / seconds:,.0f} tokens/s"
            show(done, everything, rates)

        yield advance


class Tasks(Protocol):
    """Shows the current one of several tasks."""

    def begin(self, task: str) -> None:
        """Show the start of the next task."""

    def encoded(self, done: int, total: int | None, note: str = "") -> None:
        """Show how many strings were encoded."""


@contextmanager
def tasks(what: str, total: int) -> Iterator[Tasks]:
    """Provide a bar of tasks, with the current task, strings per second and remaining time.

    Args:
        what: A word for the job, shown before the bar.
        total: The number of tasks.
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
