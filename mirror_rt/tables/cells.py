"""Cells as text."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from mirror_rt.encodings import encoding_hint, lone_surrogate
from mirror_rt.tables.delimited import RowError

__all__ = ["cell_text", "is_blank", "is_null", "joined_text"]

_INVISIBLE = re.compile(
    r"[\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]*"
)
"""Unicode's ``Default_Ignorable_Code_Point``, spaces, line ends and the empty Braille cell."""


def is_blank(text: str) -> bool:
    r"""Return whether nothing of a text can be seen: it is empty, spaces or zero-width characters.

    >>> is_blank(" \u200b"), is_blank("a\u200b")
    (True, False)
    """
    if text and text[0].isascii() and not text[0].isspace():
        return False  # most texts
    return _INVISIBLE.fullmatch(text) is not None


def cell_text(cell: object, what: str, *, numbers: bool = False) -> str:
    """Return a cell as text; a null, NaN or missing cell is empty.

    Args:
        cell: A string, or a value of JSON or Parquet.
        what: The word for it in messages.
        numbers: Whether a number is allowed, as for an id. Whole floats lose their decimal point.

    Raises:
        RowError: It is another type, or not UTF-8.

    >>> cell_text(7.0, "id", numbers=True), cell_text(None, "name")
    ('7', '')
    """
    if is_null(cell):
        return ""
    if isinstance(cell, str):
        if not cell.isascii() and lone_surrogate(cell) is not None:
            hint = f"; {encoding_hint(cell)}" if "\udc80" <= max(cell) <= "\udcff" else ""
            raise RowError(f"the {what} is not UTF-8{hint}")
        return cell
    if numbers and isinstance(cell, (int, float, Decimal)) and not isinstance(cell, bool):
        whole = isinstance(cell, int) or (math.isfinite(cell) and cell == int(cell))
        return str(int(cell)) if whole else str(cell)
    raise RowError(f"{what} is not a string but {_said(cell)}")


def is_null(cell: object) -> bool:
    """Say whether a cell holds nothing: NaN is what pandas writes for a null."""
    return cell is None or (isinstance(cell, float) and cell != cell)


def joined_text(cell: object, what: str) -> str:
    """Return a cell as text: a string, a number, or a list joined by ``|``.

    Raises:
        RowError: It is another type, or not UTF-8.

    >>> joined_text(["a", 7], "ids")
    'a|7'
    """
    if isinstance(cell, list):
        return "|".join(cell_text(one, what, numbers=True) for one in cell)
    return cell_text(cell, what, numbers=True)


def _said(cell: object) -> str:
    match cell:
        case bool():
            return f"the truth value {cell}"
        case int() | float():
            return f"the number {cell}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(cell).__name__}"
