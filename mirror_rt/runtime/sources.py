"""Read strings to embed, link or search, row by row, from text or a table of any layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.tables import (
    ArrowTable,
    Column,
    FileFormat,
    Kept,
    Notes,
    RowError,
    Table,
    TableOptions,
    cell_text,
    column_of,
    detect_format,
    format_of,
    is_arrow,
    joined_text,
    known,
    parquet_parts,
)
from mirror_rt.tables.excel import SheetCell
from mirror_rt.textfiles import (
    UNPACKING_ERRORS,
    Source,
    StrPath,
    head_lines,
    numbered_lines,
    open_binary,
    shown,
)

__all__ = [
    "FileFormat", "Notes", "Row", "count_rows", "format_of", "read_columns", "read_rows",
    "read_text",
]  # fmt: skip

_OBJECT = re.compile(r'\[?\s*\{\s*"[^"]*"\s*:')
_NO_TEXT = {
    "PubTator": re.compile(r"[^\s|]+\|[ta]\|"),
    "OBO": re.compile(r"format-version:|\[Term\]$"),
    "XML": re.compile(r"\s*<(?:\?xml|rdf:RDF)\b"),
    "a web page": re.compile(r"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE),
    "Turtle": re.compile(r"@prefix\s.*<.*>\s*\.$"),
    "PDF": re.compile(r"%PDF-"),
}
_TEXTS = (Column.TEXT, Column.NAME, Column.TITLE, Column.ID)
_LOOKED_AT = 50

Row = tuple[str, str]
"""A text and its id; the id is empty if there is no id column."""


def read_rows(
    source: StrPath,
    *,
    column: str | None = None,
    id_column: str | None = None,
    options: TableOptions | None = None,
    notes: Notes | None = None,
) -> Iterator[Row]:
    """Yield (text, id) of every row, in order, as a stream; see ``read_columns``.

    Args:
        source: A path, or ``-``.
        column: The column or field with the text.
        id_column: The column or field with the id.
        options: The layout of the file.
        notes: Counts what is skipped.
    """
    others = [] if id_column is None else [id_column]
    for text, *rest in read_columns(source, column, others, options=options, notes=notes):
        yield text, rest[0] if rest else ""


def read_columns(
    source: StrPath | ArrowTable,
    column: str | None = None,
    others: Sequence[str] = (),
    *,
    options: TableOptions | None = None,
    notes: Notes | None = None,
    kept: Kept | None = None,
) -> Iterator[list[str]]:
    """Yield the text of every row and its values in other columns, in order.

    A missing value (a null, a missing key in JSON, the end of a short row) is an empty string.

    Args:
        source: A path, or ``-``, which is plain text unless the options say otherwise; or a
            table in memory.
        column: The column or field with the text; by default one with a known heading
            (``mention``, ``query``, ``text``, ``name`` …) or the only one. Plain text has no
            columns: each line is a row, also a blank one.
        others: More columns. A list, in JSON lines and Parquet, is joined by ``|``.
        options: The layout of the file.
        notes: Counts what is skipped.
        kept: Collects all columns of the rows that are yielded.

    Raises:
        InputError: The file cannot be read, lacks a column, or has a broken row; the message
            names the row.
        ConfigError: A column was given, but the file is plain text.
    """
    options = options or TableOptions()
    notes = notes if notes is not None else Notes()
    given = source if is_arrow(source) else Source.of(source, encoding=options.encoding)
    if (
        isinstance(given, Source)
        and detect_format(given, options, FileFormat.TEXT) is FileFormat.TEXT
    ):
        if column or others:
            raise ConfigError(
                f"{shown(given)}: plain text has no columns; name it .csv, .tsv, .jsonl, .xlsx or "
                ".parquet, or say what it is with --input-format"
            )
        if kept is not None:
            kept.begin(["mention"], shown=shown(given), unit="line")
        for number, text in read_text(given, options=options, notes=notes):
            if kept is not None:
                kept.add(number, [text])
            yield [text]
        return
    table = Table(given, options=options, notes=notes)
    table.take_headings()
    if not table.headings and not table.head:
        return
    if not table.headings and isinstance(fault := table.head[0][1], RowError):
        raise InputError(f"{table.shown}: {table.unit} {table.head[0][0]}: {fault}")
    places = [_text_column(table, column), *map(table.place, others)]
    (first, name), *rest = ((place, table.headings[place]) for place in places)
    if kept is not None:
        headings = table.headings if table.first is None else table.first
        of_values = table.kind in (FileFormat.JSONL, FileFormat.XLSX)
        kept.begin(headings, shown=table.shown, unit=table.unit, as_json=of_values)
        table.kept = kept if table.kind is FileFormat.PARQUET else None
    table.only = places
    number = 0
    for number, cells in table.rows():
        try:
            if isinstance(cells, RowError):
                raise cells
            text = cells[first]
            if kept is not None and table.kept is None:
                of_sheet = table.kind is FileFormat.XLSX
                kept.add(number, [*map(_value, cells)] if of_sheet else cells)
            plain = text.__class__ is str and text.isascii()  # most are
            found = [text if plain else cell_text(text, name, numbers=True)]
            if not found[0]:
                notes.missing += 1
            for place, other in rest:
                found.append(joined_text(cells[place], other))
            yield found
        except RowError as fault:
            raise InputError(f"{table.shown}: {table.unit} {number}: {fault}") from fault

    if number == 0 and table.first is not None:
        there = f"{table.shown}: has no rows below its headings, {', '.join(table.headings)}"
        raise InputError(f"{there}; if those are data, give --input-format text")


def read_text(
    source: Source, *, options: TableOptions | None = None, notes: Notes | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of every line of plain text; see ``numbered_lines``.

    Args:
        source: The file.
        options: The layout of the file; if it is text, the content is not checked.
        notes: Gets a note if a lone heading was taken for data.

    Raises:
        InputError: It is clearly a table or JSON, but neither name nor options say so; it is
            binary; or it cannot be read.
    """
    if options is None or options.format is None:
        lines = [line for line in head_lines(source) if line.strip()]
        if any("\0" in line for line in lines):
            raise InputError(
                f"{shown(source)}: contains NUL characters, so it is an archive or binary; unpack "
                "it, or give --input-format text"
            )
        lines = lines[:_LOOKED_AT]
        first = lines[0] if lines else ""
        if _OBJECT.match("\n".join(lines[:2])):
            raise InputError(
                f"{shown(source)}: is JSON; name it .jsonl or give --input-format jsonl"
            )
        for what, begins in _NO_TEXT.items():
            if begins.match(first):
                raise InputError(
                    f"{shown(source)}: is {what}, not a text a line; give the texts alone, such as "
                    "the names that mirror-rt corpus names writes, or --input-format text"
                )
        for kind, sign in (("tsv", "\t"), ("csv", ","), ("csv", ";"), ("csv", "|")):
            cells = first.split(sign)
            words = len(known([cell.strip(' "') for cell in cells], *_TEXTS))
            regular = len(lines) > 1 and all(line.count(sign) == len(cells) - 1 for line in lines)
            if len(cells) > 1 and words > (0 if regular else 1):
                raise InputError(
                    f"{shown(source)}: its first line, {first[:60]!r}, is the headings of a table; "
                    f"name it .{kind} or give --input-format {kind}, or text if each line is a text"
                )
        if notes is not None and known([first], *_TEXTS):
            notes.remarks.append(
                f"its first line, {first!r}, is taken for a text; if it is a heading, "
                "name the file .csv or give --input-format csv"
            )
    yield from numbered_lines(source)


def _value(cell: str | None) -> object:
    """Return the text of a cell of a sheet."""
    return cell.value if isinstance(cell, SheetCell) else cell or None


def _text_column(table: Table, column: str | None) -> int:
    if column is not None:
        return table.place(column)
    if len(table.headings) == 1:
        heading = table.headings[0]
        if not table.by_name and column_of(heading) is None:
            table.notes.remarks.append(
                f"its first row, {heading!r}, is taken for the heading; if it is data, "
                "name the file .txt or give --input-format text"
            )
        return 0
    found = known(table.headings, Column.TEXT, Column.NAME, Column.TITLE)
    if not found:
        raise InputError(
            f"{table.shown}: which column holds the text? choose with --column: "
            f"{', '.join(table.headings)}"
        )
    return table.place(table.headings[found[0]])


def count_rows(source: StrPath) -> int | None:
    """Return the approximate number of rows, quickly, to show the time left.

    None for a file that can be read only once (standard input, a pipe), or if counting is slow.
    """
    path = Path(source)
    if format_of(path) is FileFormat.PARQUET:
        import pyarrow
        import pyarrow.parquet as pq

        parts = parquet_parts(path) if path.is_dir() else [path]
        try:
            return sum(int(pq.read_metadata(part).num_rows) for part in parts)
        except (pyarrow.ArrowException, OSError):
            return None  # the reader reports it
    if not path.is_file() or format_of(path) is FileFormat.XLSX:
        return None
    with open_binary(source) as handle:
        try:
            return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))
        except UNPACKING_ERRORS:
            return None  # the reader reports a broken file, with its line
