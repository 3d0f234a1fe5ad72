"""Cells as text."""

from __future__ import annotations

from mirror_rt.tables.delimited import RowError
from mirror_rt.textfiles import encoding_hint, lone_surrogate

__all__ = ["cell_text", "joined_text"]


def cell_text(cell: object, what: str, *, numbers: bool = False) -> str:
    """Return a cell as text; a null and what is missing are empty.

    Args:
        cell: A string, or a value of JSON or Parquet.
        what: What to call it in a message.
        numbers: Whether a number will do, as for an id: whole floats lose their point.

    Raises:
        RowError: It is something else, or not UTF-8.

    >>> cell_text(7.0, "id", numbers=True), cell_text(None, "name")
    ('7', '')
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        if not cell.isascii() and lone_surrogate(cell) is not None:
            hint = f"; {encoding_hint(cell)}" if "\udc80" <= max(cell) <= "\udcff" else ""
            raise RowError(f"the {what} is not UTF-8{hint}")
        return cell
    if numbers and isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return str(int(cell)) if float(cell).is_integer() else str(cell)
    raise RowError(f"{what} is not a string but {_said(cell)}")


def joined_text(cell: object, what: str) -> str:
    """Return a cell as text, numbers too; of a list the values with ``|`` between them.

    Raises:
        RowError: It is something else, or not UTF-8.

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
