"""Show how far a long job is, on stderr, and only to a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(what: str, *, total: Callable[[], int | None]) -> Iterator[Callable[[int, int], None]]:
    """Give a callback for (texts, tokens) done, which draws a bar with rates and time left.

    Args:
        what: A word for the job, shown before the bar.
        total: Tells how many texts there are, where that can be known; asked for a bar only.
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
        task = bar.add_task(what, total=total(), rates="")
        begin = time.monotonic()
        computed, computed_tokens = 0, 0

        def advance(texts: int, tokens: int) -> None:
            nonlocal computed, computed_tokens
            if tokens:  # what was there already says nothing of the speed
                computed += texts
                computed_tokens += tokens
            seconds = max(time.monotonic() - begin, 1e-3)
            rates = f"{computed / seconds:,.0f} strings/s {computed_tokens / seconds:,.0f} tokens/s"
            bar.update(task, advance=texts, rates=rates)

        yield advance
