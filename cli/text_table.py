"""Format columns of text for a terminal: within its width, and without control characters."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_GAP = 2
_WIDEST = 48
_READABLE = 12
_BREAKS = "\t\n\r\u2028\u2029"
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters and direction marks."""


def lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    least: Sequence[str] = (),
    gone: Callable[[str], None] = lambda column: None,
) -> Iterator[str]:
    """Yield the lines of a table that fits the terminal; the first one is the header.

    Of the columns in ``least``, the empty ones are dropped. If the table is too wide, the others
    are dropped in order. After that, the widest fields are cut.

    Args:
        columns: The headings.
        rows: A text for each column.
        least: Columns that may be dropped, the least important first.
        gone: Called with each dropped column that is not empty.
    """
    from rich.cells import cell_len

    shown = [[plain(field) for field in row] for row in (columns, *rows)]
    widths = [min(_WIDEST, max(cell_len(row[i]) for row in shown)) for i in range(len(columns))]
    room = width()
    empty = [name for name in least if not any(row[columns.index(name)] for row in shown[1:])]
    places = [i for i in range(len(columns)) if columns[i] not in empty]
    short = [min(width, _READABLE) for width in widths]
    for name in (name for name in least if name not in empty):
        if _width([short[i] for i in places]) > room:
            places.remove(columns.index(name))
            gone(name)
    while _width([widths[i] for i in places]) > room and max(widths[i] for i in places) > 1:
        widths[max(places, key=lambda i: widths[i])] -= 1
    for row in shown:
        yield (" " * _GAP).join(_fitted(row[i], widths[i]) for i in places).rstrip()


def width() -> int:
    """Return the width of the terminal in characters; 160 without a terminal."""
    return shutil.get_terminal_size((160, 24)).columns


def folded(text: str) -> list[str]:
    """Wrap a sentence at the width of the terminal; all lines but the first are indented."""
    return textwrap.wrap(plain(text), max(width(), _READABLE), subsequent_indent="  ")


def record_lines(values: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of a record, one per line, wrapped at the width of the terminal."""
    indent = max(map(len, values), default=0) + _GAP
    room = max(width() - indent, _READABLE)
    for name, value in values.items():
        first, *more = textwrap.wrap(plain(value), room) or [""]
        yield (name.ljust(indent) + first).rstrip()
        yield from (" " * indent + line for line in more)


def plain(text: str) -> str:
    r"""Return text that is safe for a terminal: one line without control characters.

    >>> plain("a\tb \x1b[31mred\x9b"), plain("a\u202eb\u2029c")
    ('a b [31mred', 'ab c')
    """
    if text.isprintable():
        return text
    spaced = " ".join(text.split()) if any(sign in text for sign in _BREAKS) else text
    return _HIDDEN.sub("", spaced)


def _width(widths: Collection[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _fitted(field: str, width: int) -> str:
    """Cut or pad a field to a width in cells; a Chinese character takes two cells."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(field) > width:
        field = set_cell_size(field, width - 1).rstrip() + "…"
    return set_cell_size(field, width)
