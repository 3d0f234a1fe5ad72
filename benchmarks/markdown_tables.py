"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["grid"]


def grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table.

    >>> grid(["a", "b"], [[1, "x"]])
    ['| a | b |', '|---|---|', '| 1 | x |']
    """
    lines = [head, *rows]
    cells = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return [cells[0], "|" + "---|" * len(head), *cells[1:]]
