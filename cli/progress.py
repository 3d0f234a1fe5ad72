"""Show how far a long job is, on stderr, and only to a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(what: str, *, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Give a callback for (texts, tokens) done, which draws a bar with rates and time left.

    Args:
        what: A word for the job, shown before the bar.
        total: How many texts there are, where that is known.
    """
    if not sys.stderr.isatty():
        yield lambda texts, tokens: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"), Left(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, rates="")
        begin = time.monotonic()
        done_tokens = 0

        def advance(texts: int, tokens: int) -> None:
            nonlocal done_tokens
            done_tokens += tokens
            seconds = max(time.monotonic() - begin, 1e-3)
            done = bar.tasks[0].completed + texts
            rates = f"{done / seconds:,.0f} strings/s {done_tokens / seconds:,.0f} tokens/s"
            bar.update(task, advance=texts, rates=rates)

        yield advance
