"""Read a list of ids: one per line, or the ids of a table."""

from __future__ import annotations

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import RowError, checked
from mirror_rt.runtime.sources import read_text
from mirror_rt.tables import (
    Column,
    FileFormat,
    Notes,
    Table,
    TableOptions,
    cell_text,
    detect_format,
    known,
    seem,
)
from mirror_rt.textfiles import Source, StrPath

__all__ = ["read_ids"]


def read_ids(
    source: StrPath,
    *,
    column: str | None = None,
    options: TableOptions | None = None,
    notes: Notes | None = None,
) -> list[str]:
    """Return the ids of a file, in order. Blank lines and rows are skipped.

    Args:
        source: A path, or ``-``.
        column: The column of ids in a table; by default one with a known heading, or the only one.
        options: The layout of the file.
        notes: Gets a note about a heading of plain text.

    Raises:
        InputError: The file cannot be read, it is not clear where its ids are, or a row has none.
    """
    options = options or TableOptions()
    notes = notes if notes is not None else Notes()
    given = Source.of(source, encoding=options.encoding)
    default = FileFormat.TEXT if column is None else FileFormat.CSV
    if detect_format(given, options, default) is FileFormat.TEXT:
        lines = [line.strip() for _, line in read_text(given, options=options)]
        lines = [line for line in lines if line]
        if known(lines[:1], Column.ID):
            notes.remarks.append(f"its first line, {lines[0]!r}, is taken for the heading")
            del lines[0]
        return lines
    table = Table(given, options=options, default=default, notes=notes)
    headings = table.headings if table.by_name else table.first or []
    ids = known(headings, Column.ID) or seem(headings, Column.ID)
    number_of = column is not None and column.isdecimal() and column not in headings
    if number_of and not table.by_name:
        at = int(column or 0) - 1
        if not 0 <= at < len(headings):
            raise InputError(f"{table.shown}: no column {column}; there are {len(headings)}")
        if ids:
            table.take_headings()
    elif column is not None or ids:
        table.take_headings()
        at = ids[0] if column is None else table.place(column)
    elif len(headings) == 1:
        at = 0
    else:
        columns = ", ".join(headings if table.by_name else map(str, range(1, len(headings) + 1)))
        raise InputError(
            f"{table.shown}: which column holds the ids? choose with --id-column: {columns}"
            if headings
            else f"{table.shown}: holds no ids; give one per line, or a table with the heading id"
        )
    found = []
    for number, cells in table.rows():
        try:
            if isinstance(cells, RowError):
                raise cells
            if table.is_blank(cells):
                continue
            found.append(checked(cell_text(cells[at], "id", numbers=True), "id"))
        except RowError as fault:
            raise InputError(f"{table.shown}: {table.unit} {number}: {fault}") from fault
    if not found:
        raise InputError(f"{table.shown}: holds no ids")
    return found
