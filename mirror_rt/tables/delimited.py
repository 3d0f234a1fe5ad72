"""Split the lines of a delimited file into rows; quoted cells follow RFC 4180.

The number of a row is its first line. If a quoted cell does not end properly, the error belongs to
the line where it starts, and reading continues on the next line.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from mirror_rt._count import counted
from mirror_rt.tables.vocabulary import Column, known

__all__ = ["DELIMITERS", "RowError", "detect_delimiter", "separator_line", "split_rows"]

DELIMITERS = (",", ";", "\t", "|")

_MOST_LINES = 10_000
"""A quoted cell over more lines counts as a stray quote, to limit time and memory."""

_MOST_CHARACTERS = 1 << 24

_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_WHOLE_CELL = re.compile(r'"(?:[^"]|"")*"')

Line: TypeAlias = "tuple[int, str]"


class RowError(ValueError):
    """A row cannot be used. The text is the fault alone; the reader adds file and line."""


def separator_line(line: str) -> str | None:
    """Return the delimiter in a first line such as ``sep=;``, as Excel writes it.

    >>> separator_line("sep=;"), separator_line("id;name")
    (';', None)
    """
    found = _SEPARATOR.fullmatch(line)
    return found[1] if found else None


def detect_delimiter(lines: Sequence[str], default: str) -> str | None:
    r"""Detect the delimiter of a file.

    Args:
        lines: The first lines; the first one may be headings.
        default: The delimiter by the file name, used without evidence for another.

    Returns:
        The delimiter. None if it is not clear: the first line contains one, but the other lines
        do not agree.

    >>> detect_delimiter(["id;name", "1;a, b"], ","), detect_delimiter(["text"], ",")
    (';', ',')
    >>> detect_delimiter(["fever, high", "cough", "a, b, c"], "\t") is None
    True
    """
    if not lines:
        return default

    def rate(delimiter: str) -> tuple[int, bool, bool, int]:
        rows = [_cells(line, delimiter) for line in lines]
        first = rows[0] if len(rows[0]) > 1 else []
        words = len(known(first, *Column))
        regular = len(rows) > 1 and len(first) > 1 and all(len(row) == len(first) for row in rows)
        return words, regular, delimiter == default, len(first)

    rates = {delimiter: rate(delimiter) for delimiter in {default: 0, **dict.fromkeys(DELIMITERS)}}
    best = max(rates, key=lambda delimiter: rates[delimiter])
    words, regular, _, _ = rates[best]
    if words or regular or rates[default][3]:
        return best if words or regular else default
    if known([lines[0]], *Column) or not any(d in lines[0] for d in DELIMITERS):
        return default
    return None


def _cells(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.split(delimiter)
    cells, rest = [], line
    while True:
        quoted = _WHOLE_CELL.match(rest)
        if quoted and rest[quoted.end() : quoted.end() + 1] in ("", delimiter):
            cell, rest = quoted.group(), rest[quoted.end() :]
            cells.append(unquoted(cell))
            if not rest:
                return cells
            rest = rest[1:]
            continue
        cell, found, rest = rest.partition(delimiter)
        cells.append(cell)
        if not found:
            return cells


def unquoted(cell: str) -> str:
    """Return the content of a cell that is quoted as a whole; otherwise the cell itself.

    >>> unquoted('"a ""b"" c"'), unquoted('5" pipe'), unquoted('"a" and "b"')
    ('a "b" c', '5" pipe', '"a" and "b"')
    """
    if len(cell) > 1 and _WHOLE_CELL.fullmatch(cell):
        return cell[1:-1].replace('""', '"')
    return cell


def _without_end(line: str) -> tuple[str, str]:
    """Return a line without its line end, and the line end."""
    text = line.removesuffix("\n").removesuffix("\r")
    return text, line[len(text) :] or "\n"


class _Lines:
    """Lines that can be pushed back."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._back: deque[Line] = deque()

    def __iter__(self) -> Iterator[Line]:
        while True:
            if self._back:
                yield self._back.popleft()
                continue
            line = next(self._lines, None)
            if line is None:
                return
            yield line

    def next(self) -> Line | None:
        return self._back.popleft() if self._back else next(self._lines, None)

    def give_back(self, lines: Sequence[Line]) -> None:
        self._back.extendleft(reversed(lines))


class _Stray(Exception):
    """A quote that does not start a valid quoted cell."""

    def __init__(self, line: int, fault: str, used: list[Line]) -> None:
        super().__init__(fault)
        self.line = line
        self.fault = fault
        self.used = used  # the further lines of the row, up to the fault


def split_rows(
    lines: Iterable[Line], delimiter: str, *, quoted: bool = True
) -> Iterator[tuple[int, list[str] | RowError]]:
    r"""Yield (number of the first line, cells or error) for each row, including empty ones.

    Args:
        lines: Numbered lines. A quoted cell over several lines keeps their line ends; lines
            without one are joined by ``\n``.
        delimiter: The delimiter. With tabs, a ``"`` is a quote only around a whole cell, as
            spreadsheets write it; otherwise it is text.
        quoted: Whether ``"`` quotes cells.

    >>> rows = split_rows([(1, 'a,"b'), (2, 'c"'), (3, 'd,"e'), (4, "f,g")], ",")
    >>> [(number, row if isinstance(row, list) else "fault") for number, row in rows]
    [(1, ['a', 'b\nc']), (3, 'fault'), (4, ['f', 'g'])]
    """
    given = _Lines(lines)
    width = 0
    for line in given:
        number, text = line
        row: list[str] | RowError
        if not quoted or '"' not in text:
            row = text.removesuffix("\n").removesuffix("\r").split(delimiter)
        elif delimiter == "\t":
            row = _tabbed(line, given, width)
        else:
            try:
                row, _ = _quoted(line, given, delimiter, width)
            except _Stray as stray:
                number, row = stray.line, RowError(stray.fault)
        if not width and isinstance(row, list) and row != [""]:
            width = len(row)
        yield number, row


def _tabbed(line: Line, given: _Lines, width: int) -> list[str]:
    cells = _without_end(line[1])[0].split("\t")
    whole = [unquoted(cell) for cell in cells]
    opens = any(a is b and a.startswith('"') for a, b in zip(cells, whole, strict=True))
    if not opens or not width:
        return whole
    try:
        row, more = _quoted(line, given, "\t", width)
    except _Stray as stray:
        given.give_back(stray.used)
        return whole
    # A cell may contain a tab or several lines, but not lines that are rows by themselves.
    odd = all(text.count("\t") + 1 != width for _, text in more) if more else len(cells) != width
    if odd and len(row) == width:
        return row
    given.give_back(more)
    return whole


def _quoted(line: Line, given: _Lines, delimiter: str, width: int) -> tuple[list[str], list[Line]]:
    """Return the cells of a row, and its further lines.

    Raises:
        _Stray: A quoted cell does not end. The lines after the fault are pushed back.
    """
    text, line_end = _without_end(line[1])
    cells: list[str] = []
    more: list[Line] = []
    at = 0  # the start of the next cell
    while True:
        if text[at : at + 1] != '"':
            end = text.find(delimiter, at)
            cells.append(text[at:] if end < 0 else text[at:end])
            if end < 0:
                return cells, more
            at = end + 1
            continue
        opened, before, end = at, len(more), at + 1
        parts: list[str] = []
        fault, size = "", 0
        while not fault:
            close = text.find('"', end)
            if close < 0:
                parts.append(text[end:])
                size += len(parts[-1])
                following = given.next()
                if following is None:
                    fault = "a quoted cell does not end"
                elif len(more) - before > _MOST_LINES or size > _MOST_CHARACTERS:
                    given.give_back([following])
                    fault = (
                        f"a quoted cell does not end within {counted(len(more) - before, 'line')}"
                    )
                else:
                    more.append(following)
                    parts.append(line_end)
                    end = 0
                    text, line_end = _without_end(following[1])
            elif text[close + 1 : close + 2] == '"':
                parts.append(text[end : close + 1])
                end = close + 2
            elif text[close + 1 : close + 2] in ("", delimiter):
                parts.append(text[end:close])
                break
            elif len(more) > before:
                fault = "a quoted cell does not end where another begins"
            else:
                fault = f"text after the quoted cell {text[opened : close + 1]}"
        inner = more[before:]
        if not fault and len(inner) > 2 and width > 1:
            between = (_without_end(text)[0] for _, text in inner[:-1])
            if all(len(_cells(text, delimiter)) == width for text in between):
                fault = f"a quoted cell takes in {counted(len(inner), 'row')} of the table"
        if fault:
            given.give_back(inner)
            where = more[before - 1][0] if before else line[0]
            raise _Stray(where, f"not CSV ({fault})", more[:before])
        cells.append("".join(parts))
        if close + 1 == len(text):
            return cells, more
        at = close + 2
