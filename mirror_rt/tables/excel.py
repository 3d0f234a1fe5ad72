"""Read and write the sheets of Excel files; needs the extra ``xlsx``.

Read with python-calamine (Rust, a tenth of openpyxl's time, old .xls and .ods too), written with
XlsxWriter (a row at a time, in constant memory): both are released several times a year, while
openpyxl has had no release since 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import IO

from mirror_rt._extras import require
from mirror_rt.errors import ConfigError, InputError

__all__ = ["MOST_ROWS", "SheetCell", "read_sheet", "write_xlsx"]

MOST_ROWS = 1_048_576
"""A sheet has no more, its heading among them."""

_LONGEST_CELL = 32_767
_FIRST_YEAR = 1900
_FORMS = {date: "yyyy-mm-dd", datetime: "yyyy-mm-dd hh:mm:ss", time: "hh:mm:ss"}
_EXACT = 1e15
"""Larger numbers are ids rather than amounts, of which a sheet would lose digits."""


class SheetCell(str):
    """The text of a cell that holds something else, as it would stand in a CSV file.

    Attributes:
        value: What it holds: a number, a truth value, a date or a time.
    """

    __slots__ = ("value",)
    value: object

    def __new__(cls, text: str, value: object) -> SheetCell:
        """Make the text of a value."""
        made = super().__new__(cls, text)
        made.value = value
        return made


def read_sheet(shown: str, file: IO[bytes]) -> tuple[Iterator[list[str]], list[str]]:
    """Return the rows of the first sheet that holds something, as text, and the other sheets.

    The text of what is no text in the sheet is a ``SheetCell``.

    Args:
        shown: What to call the file in a message.
        file: It, at its beginning; one that can be sought in.

    Raises:
        InputError: It is no Excel file, is protected by a password, or has no rows.
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
                return ([_text(cell) for cell in row] for row in rows), others
    except MemoryError:
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        reason = str(error) or type(error).__name__
        file.seek(0)
        if not file.read(4).startswith((b"PK", b"\xd0\xcf")):
            raise InputError(
                f"{shown}: is no Excel file; if it is text name it .csv, .tsv or .jsonl, or say "
                "what it is with --input-format or --kb-format"
            ) from error
        raise InputError(f"{shown}: cannot be read as Excel ({reason})") from error
    raise InputError(f"{shown}: its sheets are empty")


def _text(cell: object) -> str:
    """Return a cell as it would stand in a CSV file."""
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


def write_xlsx(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a sheet of headings and rows.

    Numbers, truth values, dates and times stay what they are, all else is text, and so is what a
    sheet cannot hold: long numbers, dates before 1900.

    Args:
        path: The file, which is replaced.
        headings: One for each column.
        rows: As many values as headings, each a string, a number, a date, a time or None.

    Raises:
        ConfigError: There are more rows, or a longer cell, than a sheet may have.
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
        book.set_properties({"created": datetime(2000, 1, 1)})  # the same rows, the same bytes
        sheet = book.add_worksheet()
        bold = book.add_format({"bold": True})
        forms = {kind: book.add_format({"num_format": form}) for kind, form in _FORMS.items()}
        sheet.freeze_panes(1, 0)
        for column, heading in enumerate(headings):
            sheet.write_string(0, column, heading, bold)
        for number, row in enumerate(rows, 1):
            if number >= MOST_ROWS:
                raise ConfigError(
                    f"{path.name}: a sheet has {MOST_ROWS:,} rows at most; write .csv"
                )
            for column, value in enumerate(row):
                if isinstance(value, bool):
                    sheet.write_boolean(number, column, value)
                elif isinstance(value, (int, float)) and abs(value) < _EXACT:
                    sheet.write_number(number, column, value)
                elif type(value) in forms and getattr(value, "year", _FIRST_YEAR) >= _FIRST_YEAR:
                    sheet.write_datetime(number, column, value, forms[type(value)])
                elif value is not None and value != "":
                    text = str(value)
                    if len(text) > _LONGEST_CELL:
                        raise ConfigError(
                            f"{path.name}: row {number} has a cell of {len(text):,} characters, a "
                            f"sheet takes {_LONGEST_CELL:,}; write .csv"
                        )
                    sheet.write_string(number, column, text)
