"""Read and write sheets of Excel files; needs the extra ``xlsx``.

python-calamine reads them: it is written in Rust, ten times faster than openpyxl, and also reads
.xls and .ods. XlsxWriter writes them row by row in constant memory. Both have several releases a
year; openpyxl has had none since 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mirror_rt._count import counted
from mirror_rt._extras import require
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.tables.kept import Kept, written_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "MOST_COLUMNS",
    "MOST_ROWS",
    "SheetCell",
    "SheetCheck",
    "check_headings",
    "read_sheet",
    "write_xlsx",
]

MOST_ROWS = 1_048_576
"""The maximum number of rows in a sheet, including the headings."""

MOST_COLUMNS = 16_384

_LONGEST_CELL = 32_767
_FIRST_YEAR = 1900
_FORMS = {date: "yyyy-mm-dd", datetime: "yyyy-mm-dd hh:mm:ss", time: "hh:mm:ss"}
_EXACT = 1e15
"""Larger numbers are written as text, as a sheet would lose digits. They are usually ids."""


class SheetCell(str):
    """A cell that is not text, converted to the text that a CSV file would contain.

    Attributes:
        value: The original value: a number, a boolean, a date or a time.
    """

    __slots__ = ("value",)
    value: object

    def __new__(cls, text: str, value: object) -> SheetCell:
        """Create the text with its value."""
        made = super().__new__(cls, text)
        made.value = value
        return made


def read_sheet(shown: str, file: IO[bytes]) -> tuple[Iterator[list[str]], list[str]]:
    """Return the rows of the first sheet with content, as text, and remarks about the file.

    A cell that is not text is returned as a ``SheetCell``. Each row under a merged cell has its
    value.

    Args:
        shown: The name of the file in messages.
        file: The file, seekable, at its start.

    Raises:
        InputError: It is not an Excel file, is protected by a password, or has no rows.
        MissingExtraError: python-calamine is not installed.
    """
    require("python_calamine", extra="xlsx")
    from python_calamine import CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(file)
        names = list(book.sheet_names)
        for name in names:
            sheet = book.get_sheet_by_name(name)
            rows = sheet.to_python(skip_empty_area=False)
            if any(cell != "" for row in rows for cell in row):
                others = [other for other in names if other != name]
                remarks = [f"sheets left alone: {', '.join(others)}"] if others else []
                if filled := _fill_merged(rows, sheet.merged_cell_ranges or ()):
                    remarks.append(
                        f"{counted(filled, 'merged cell')}: "
                        "the value was read in each row of the cell"
                    )
                return ([_text(cell) for cell in row] for row in rows), remarks
    except MemoryError:
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        reason = str(error) or type(error).__name__
        file.seek(0)
        if not file.read(4).startswith((b"PK", b"\xd0\xcf")):
            raise InputError(
                f"{shown}: is not an Excel file; if it is text, name it .csv, .tsv or .jsonl, or "
                "say what it is with --input-format or --kb-format"
            ) from error
        raise InputError(f"{shown}: cannot be read as Excel ({reason})") from error
    raise InputError(f"{shown}: its sheets are empty")


def _fill_merged(
    rows: list[list[Any]], ranges: Iterable[tuple[tuple[int, int], tuple[int, int]]]
) -> int:
    """Write the value of each merged cell into all its rows; return the number of such cells.

    Args:
        rows: The rows of a sheet, from its first.
        ranges: The first and the last (row, column) of each merged cell.
    """
    headings = next(i for i, row in enumerate(rows) if any(cell != "" for cell in row))
    filled = 0
    for (top, column), (bottom, _) in ranges:
        # Below a merged heading are parts of the headings, or data.
        if headings < top < bottom and top < len(rows) and column < len(rows[top]):
            value = rows[top][column]
            for row in rows[top + 1 : bottom + 1]:
                row[column] = value
            filled += value != ""
    return filled


def _text(cell: object) -> str:
    """Return a cell as the text that a CSV file would contain."""
    match cell:
        case bool():
            return SheetCell("TRUE" if cell else "FALSE", cell)
        case float() if cell.is_integer() and abs(cell) < _EXACT:
            return SheetCell(str(int(cell)), int(cell))
        case datetime() if cell.time() == time():
            return SheetCell(cell.date().isoformat(), cell.date())
        case datetime() | date() | time():
            return SheetCell(cell.isoformat(), cell)
        case float():
            return SheetCell(str(cell), cell)
        case _:
            return str(cell)


class SheetCheck(Kept):
    """Checks while an input is read that a sheet can hold its rows; it stores nothing.

    Args:
        name: The name of the sheet's file.
        every_row: Whether the sheet will have every row of the input.

    Raises:
        ConfigError: There are more rows, or longer cells, than a sheet allows.
    """

    def __init__(self, name: str, *, every_row: bool = True) -> None:
        super().__init__()
        self._name, self._every_row = name, every_row

    def add(self, number: int, cells: Sequence[Any]) -> None:
        """Check a row."""
        self.rows += 1
        if self._every_row:
            _check_rows(self._name, self.rows)
        for cell in cells:
            if isinstance(cell, (str, bytes, list, dict)):  # others are short
                _check_length(self._name, self.rows, written_text(cell))

    def add_batch(self, batch: pa.RecordBatch, beside: Mapping[str, str]) -> None:
        """Check rows with types."""
        import pyarrow.types as of

        short = (of.is_primitive, of.is_decimal, of.is_null)
        some = [column for column in batch.columns if not any(is_(column.type) for is_ in short)]
        for i in range(batch.num_rows):
            self.add(0, [column[i].as_py() for column in some])


def check_headings(name: str, headings: Sequence[str]) -> None:
    """Check that the sheet of a file can hold these headings.

    Raises:
        ConfigError: There are too many, or one is too long.
    """
    if len(headings) > MOST_COLUMNS or max(map(len, headings), default=0) > _LONGEST_CELL:
        raise ConfigError(
            f"{name}: a sheet has {MOST_COLUMNS:,} columns at most, with headings of "
            f"{_LONGEST_CELL:,} characters; write .csv"
        )


def _check_rows(name: str, row: int) -> None:
    if row >= MOST_ROWS:
        raise ConfigError(f"{name}: a sheet has {MOST_ROWS:,} rows at most; write .csv")


def _check_length(name: str, row: int, text: str) -> None:
    if len(text) > _LONGEST_CELL:
        raise ConfigError(
            f"{name}: row {row} has a cell of {counted(len(text), 'character')}, a sheet takes "
            f"{_LONGEST_CELL:,}; write .csv"
        )


def write_xlsx(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a sheet of headings and rows.

    Numbers, booleans, dates and times keep their types. Everything else becomes text, and so do
    values that a sheet cannot hold: long numbers, dates before 1900.

    Args:
        path: The file, which is replaced.
        headings: The headings.
        rows: Rows of as many values: strings, numbers, dates, times or None.

    Raises:
        ConfigError: There are more rows, or longer cells, than a sheet allows.
        MissingExtraError: XlsxWriter is not installed.
    """
    require("xlsxwriter", extra="xlsx")
    import xlsxwriter

    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "nan_inf_to_errors": True,
        "tmpdir": str(path.parent),
    }
    with xlsxwriter.Workbook(str(path), options) as book:
        book.set_properties({"created": datetime(2000, 1, 1)})  # equal rows give equal bytes
        check_headings(path.name, headings)
        sheet = book.add_worksheet()
        bold = book.add_format({"bold": True})
        forms = {kind: book.add_format({"num_format": form}) for kind, form in _FORMS.items()}
        sheet.freeze_panes(1, 0)
        for column, heading in enumerate(headings):
            sheet.write_string(0, column, heading, bold)
        for number, row in enumerate(rows, 1):
            _check_rows(path.name, number)
            for column, value in enumerate(row):
                if isinstance(value, bool):
                    sheet.write_boolean(number, column, value)
                elif isinstance(value, (int, float)) and abs(value) < _EXACT:
                    sheet.write_number(number, column, value)
                elif type(value) in forms and getattr(value, "year", _FIRST_YEAR) >= _FIRST_YEAR:
                    sheet.write_datetime(number, column, value, forms[type(value)])
                elif value is not None and value != "":
                    text = str(value)
                    _check_length(path.name, number, text)
                    sheet.write_string(number, column, text)
