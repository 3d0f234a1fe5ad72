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

__all__ = ["MOST_ROWS", "read_sheet", "write_xlsx"]

MOST_ROWS = 1_048_576
"""A sheet has no more, its heading among them."""

_LONGEST_CELL = 32_767
_EXACT = 1e15
"""Larger numbers are ids rather than amounts, of which a sheet would lose digits."""


def read_sheet(shown: str, file: IO[bytes]) -> tuple[Iterator[list[str]], list[str]]:
    """Return the rows of the first sheet that holds something, as text, and the other sheets.

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
        raise InputError(f"{shown}: cannot be read as Excel ({reason})") from error
    raise InputError(f"{shown}: its sheets are empty")


def _text(cell: object) -> str:
    """Return a cell as it would stand in a CSV file."""
    match cell:
        case bool():
            return "TRUE" if cell else "FALSE"
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case datetime() if cell.time() == time():
            return cell.date().isoformat()
        case datetime() | date() | time():
            return cell.isoformat()
        case _:
            return str(cell)


def write_xlsx(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a sheet of headings and rows; numbers stay numbers, all else is text.

    Args:
        path: The file, which is replaced.
        headings: One for each column.
        rows: As many values as headings, each a string, a number or None.

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
        sheet.freeze_panes(1, 0)
        for column, heading in enumerate(headings):
            sheet.write_string(0, column, heading, bold)
        for number, row in enumerate(rows, 1):
            if number >= MOST_ROWS:
                raise ConfigError(f"{path}: a sheet has {MOST_ROWS:,} rows at most; write .csv")
            for column, value in enumerate(row):
                if (
                    isinstance(value, (int, float))
                    and not isinstance(value, bool)
                    and abs(value) < _EXACT
                ):
                    sheet.write_number(number, column, value)
                elif value is not None and value != "":
                    text = str(value)
                    if len(text) > _LONGEST_CELL:
                        raise ConfigError(
                            f"{path}: row {number} has a cell of {len(text):,} characters, a sheet "
                            f"takes {_LONGEST_CELL:,}; write .csv"
                        )
                    sheet.write_string(number, column, text)
